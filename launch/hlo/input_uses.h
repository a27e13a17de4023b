// What a program does with its inputs, so that random ones make sense: a token that serves as an
// index must be one of the rows that there are, a second moment whose root is taken is no less than 0.
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
  bool is_root = false;  // of floats: a root or logarithm of them is taken
};

// One per input. Integers are followed through what keeps them as they are (or adds to them) to gather,
// scatter, dynamic slices, and comparisons with iota (one_hot), floats through sums and constant
// factors to roots and logarithms; both into loops and branches.
std::vector<InputUse> input_uses(const Graph& graph);

}  // namespace tessera
