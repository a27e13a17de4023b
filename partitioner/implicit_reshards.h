// Which reshards nobody asked for: how a plan can be worse than its author thinks.
//
// A reshard is asked for where an annotation demands its result (a named activation, an output), and
// where it brings the shards of a parameter together, which is what sharding a parameter means. The
// reduction of partial sums is no reshard. All others are implicit: an op needs its operand otherwise
// than the annotations let it lie.
#pragma once

#include <string>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/reshard_search.h"

namespace tessera {

struct ImplicitReshard {
  int instruction = -1;  // the reshard
  double bytes = 0;      // that one device sends
  // "all_gather of 1048576 B per device for operand 0 of dot_general (%17, block.1/mlp): tensor
  // "hidden" bf16[...] (batch, length, mlp) lies [...] and is needed [...]"; then what would help.
  std::string message;
};

// The implicit reshards of `graph` (before reshards_to_collectives) that send more than `limit`
// bytes, largest first.
std::vector<ImplicitReshard> find_implicit_reshards(const Graph& graph, ReshardPlanner& planner,
                                                    int64_t limit);

// The same in all regions too: warns of the largest, or, if `strict`, throws ConfigError with the
// largest of all. A limit of 0: no check.
void check_implicit_reshards(const Graph& graph, ReshardPlanner& planner, int64_t limit,
                             bool strict, std::vector<std::string>& warnings);

}  // namespace tessera
