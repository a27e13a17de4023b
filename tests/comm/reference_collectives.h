// What each collective means, element by element: slow, plain, and written apart from the engine.
#pragma once

#include <vector>

#include "core/runtime/communicator.h"
#include "core/types/host_tensor.h"

namespace tessera::test {

// A collective without its operands' addresses; `routes[r]` is where group rank r sends (permute).
struct CollectiveCase {
  CollectiveKind kind = CollectiveKind::all_reduce;
  DType dtype = DType::f32;
  Shape shape;
  ReduceKind reduce = ReduceKind::sum;
  int split_dim = 0, concat_dim = 0, root = 0;
  std::vector<int> routes;

  // The call of group rank `rank` on these operands.
  CollectiveCall call(int rank, const HostTensor& input, HostTensor& output,
                      std::string_view tensor) const;
};

// The outputs of all ranks, given their inputs.
std::vector<HostTensor> reference_collective(const CollectiveCase& what,
                                             const std::vector<HostTensor>& inputs);

// A random case for `size` ranks, and rank `rank`'s input for it. Both follow from the seed alone.
CollectiveCase random_case(uint64_t seed, int size, int64_t max_elements = 4000);
HostTensor random_input(const CollectiveCase& what, uint64_t seed, int rank);

}  // namespace tessera::test
