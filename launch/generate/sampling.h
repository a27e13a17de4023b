// Drawing the next token from logits.
#pragma once

#include <cstdint>
#include <span>

namespace tessera {

struct SamplingOptions {
  double temperature = 1;  // divides the logits; 0 takes the likeliest
  int64_t top_k = 0;       // draw among the k likeliest; 0: all
};

// The index drawn for a uniform number in [0, 1). Ties go to the smaller index, so that the result
// is a pure function of its arguments. `logits` is not empty; entries may be -inf, not NaN.
int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform);

}  // namespace tessera
