// What a program does with its integers, so that random ones make sense: a token that serves as an
// index must be one of the rows that there are.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

struct InputUse {
  // Positions in [0, bound) lie inside whatever the input indexes; unset: it indexes nothing.
  std::optional<int64_t> bound;
  bool is_bits = false;  // a key of random numbers, or a word whose bits are mixed
};

// One per input. Followed through what keeps integers as they are (or adds a constant) to gather,
// scatter, dynamic slices, and comparisons with iota (one_hot); into loops and branches too.
std::vector<InputUse> input_uses(const Graph& graph);

}  // namespace tessera
