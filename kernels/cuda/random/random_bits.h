// Random bits from an explicit state (core/ops/rng.h).
#pragma once

#include "kernels/cuda/random/places.h"

namespace tessera::cuda {

struct BitDraw {
  bool is_philox = true, is_wide = false;  // else three_fry; wide: elements of 64 bits
  int state_words = 2;
  int64_t count = 0;              // elements of the whole tensor, at least 1
  int64_t along = 1, inner = 1;   // of three_fry: the dim of neighbouring words, what lies within it
  uint64_t blocks = 0;            // what the counter goes on by
};

// Elements of Word, an unsigned integer. `state` and `next` are device memory and lie apart; `next` is written
// even where the shard has no elements.
template <typename Word>
void random_bits(const BitDraw& draw, const RandomPlaces& places, const uint64_t* state, uint64_t* next, Word* to,
                 cudaStream_t stream);

}  // namespace tessera::cuda
