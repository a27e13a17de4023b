// How often loops turn, where it can be read off: a carried integer that starts at a constant, grows
// by a constant per turn and is compared with a constant. The shape of every counted loop that JAX
// writes. Known counts become the attribute `trip_count`, by which loops can be differentiated.
//
//     while (k = 2; k < 11; k += 3)    turns with k = 2, 5, 8: trip_count 3
#pragma once

#include <optional>

#include "core/ir/graph.h"

namespace tessera {

Graph find_trip_counts(const Graph& graph);

// The stated or found count of one `while` of the graph.
std::optional<int64_t> trip_count_of(const Graph& graph, const Instruction& loop);

// The value of a scalar integer that is a constant, seen through converts and reshapes.
std::optional<int64_t> known_integer(const Graph& graph, Value value);

}  // namespace tessera
