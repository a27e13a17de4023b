// Collective matrix products (Wang et al., ASPLOS 2023): a gather in front of a product, or a
// reduce_scatter behind it, is cut into a ring, so that each hop travels beside a part of the product.
//
//     y = dot(all_gather(x), w)          x_0 = x                x_s: the block of device r + s
//                                        x_s+1 = shift(x_s)     while dot(x_s, w) runs
//                                        y = blocks dot(x_s, w), each put in its place
//
//     y = reduce_scatter(dot(x, w))      a_0 = dot(block r-1 of x, w)
//                                        a_s+1 = shift(a_s) + dot(block r-2-s of x, w)
//
// The loop is unrolled over the axis, which is therefore small. Two ways: the blocks travel in both
// directions of the ring at once, so that half as many hops follow one another. Gathers of a
// contracted dim stay: their sums would have another order on every device, and replicas would
// differ in the last bit.
#pragma once

#include "core/ir/graph.h"
#include "partitioner/machine_model.h"

namespace tessera {

enum class RingDirections : uint8_t { none, one_way, two_way };
// "off", "one_way", "two_way"; throws ConfigError naming them.
RingDirections ring_directions(std::string_view name);

struct CollectiveMatmulOptions {
  RingDirections directions = RingDirections::none;
  MachineModel machine = machine_model("cpu-shm");
  // Rewrite only where the machine model expects a gain:
  //     product / n + (n - 1) max(hop, product / n)  <  product + collective
  bool only_where_it_pays = true;
};

// For local graphs. Gathers are cut where all their users are products, reduce_scatters where they
// alone use one; on axes of at most 16 devices.
Graph collective_matmul(const Graph& graph, const CollectiveMatmulOptions& options);

}  // namespace tessera
