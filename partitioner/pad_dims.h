// Padded sizes: how large every dim that is in shards is stored.
//
// (value, dim) pairs whose dim has axes are joined to classes by the factors of ops and by reshards
// between two lyings that both have the dim in shards. A class is stored in the next multiple of the
// least common multiple of its shard counts. A dim that is whole on every device is stored as it is:
// a gather is followed, a scatter preceded by resize_padding, which is local there.
//
//     f32[5] {x} -> reshard {}        <x=4>:  stored 8; all_gather gives 8, cut to 5
//     f32[7] {x} -> reshard {y}  <x=3, y=2>:  stored 12 throughout, or, as 12 is much more than
//                                             9 (kMuchPadding): {x} 9 -> {} 7 -> {y} 8
//
// Where joining by a reshard would enlarge a class by more than kMuchPadding, or would change the
// size of an input or output (whose size depends on its own axes alone, so that all graphs agree on
// it), the dim is stored in two sizes, and the reshard resizes it: between neighbours, or by way of the
// whole dim (partitioner/resize_route.h).
#pragma once

#include <string>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/reshard_search.h"

namespace tessera {

// The share of a tensor that may be added to it before that is warned of, refused under --strict, and
// avoided where there is another way.
constexpr double kMuchPadding = 0.125;

// A tensor that takes more than it holds.
struct PaddedTensor {
  std::string tensor;      // as describe() has it, with its type and sharding
  int64_t wasted_bytes = 0;  // on one device
  double waste = 0;        // share of the logical bytes
};

struct PadNotes {
  std::vector<PaddedTensor> tensors;  // largest waste first
  std::vector<std::string> warnings;  // of inputs with much padding, and of gathered dims
};
// Throws ConfigError for the first warning: --strict.
void refuse_much_padding(const PadNotes& notes);

// Sets ResultInfo::padded_shape where axes do not divide. Needs explicit reshards.
// `planner` says what ways between two sizes cost.
Graph pad_dims(const Graph& graph, ReshardPlanner& planner, PadNotes* notes = nullptr);

}  // namespace tessera
