// Which results are which parameters in the next step.
#pragma once

#include <utility>
#include <vector>

#include "partitioner/hlo/import.h"

namespace tessera::hlo {

struct Carry {
  std::vector<std::pair<int, int>> pairs;    // output -> input, by output; equal types
  std::vector<std::pair<int, int>> aliased;  // those of them that the module's aliases state
  std::vector<std::string> notes;            // aliases that cannot be followed
};

// From the module's aliases; then its donors, in order, with the first result of equal type that is
// still free; then, where it states neither, the longest run of results that have the types of the
// first parameters, the first such run. Throws UserError for an alias or donor of a parameter or
// result that there is not, or that is stated twice.
Carry find_carry(const HloModule& module, const std::vector<BoundaryLeaf>& inputs,
                 const std::vector<BoundaryLeaf>& outputs);

}  // namespace tessera::hlo
