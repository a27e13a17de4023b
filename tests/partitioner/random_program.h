// Random programs with random annotations, decoded from a tape of numbers, so that a shrunk tape is
// a smaller program.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ir/graph.h"

namespace tessera::testing {

struct RandomProgram {
  Graph graph;   // f64 and s32 values; some are named and carry a sharding, inputs and outputs
                 // partial too
  MeshPtr mesh;  // 2 to 8 devices
};

// Numbers past the end of the tape read as 0.
RandomProgram random_program(const std::vector<uint32_t>& tape);

}  // namespace tessera::testing
