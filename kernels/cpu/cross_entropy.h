// The parts of softmax cross-entropy that touch logits: maximum, sum of exponentials with the
// target's logit, and the gradient. Each works on a shard of the vocabulary alone.
//
// Floor: memory. Each reads the logits once; the gradient also writes as much, best over the
// logits themselves, which saves reading lines that are only overwritten. All of them row by row read
// the logits once: a row stays in the second-level cache.
#pragma once

#include <cstdint>

#include "kernels/common/simd.h"

namespace tessera::cpu {

// Rows of logits [rows, columns], of which column 0 is vocabulary entry `start`; entries at or
// above `valid_size` are padding and take no part.
struct LogitsShape {
  int64_t rows = 0, columns = 0;
  int64_t start = 0, valid_size = 0;

  int64_t valid_columns() const {
    const int64_t valid = valid_size - start;
    return valid < 0 ? 0 : (valid < columns ? valid : columns);
  }
};

// maximum [rows]; -infinity where the shard has padding alone. T is float, bfloat16 or double.
template <typename T>
void logits_max(const LogitsShape& shape, const T* logits, simd::Accumulator<T>* maximum);

// sum_exp [rows] = sum of exp(logit - maximum); target_logit [rows], 0 where the target lies
// outside the shard. Id is int32_t or int64_t.
template <typename T, typename Id>
void logits_sum(const LogitsShape& shape, const T* logits, const simd::Accumulator<T>* maximum,
                const Id* targets, simd::Accumulator<T>* sum_exp,
                simd::Accumulator<T>* target_logit);

// dlogits = exp(logit - maximum) * d_sum + onehot(target) * d_target, 0 in padding. dlogits may be
// the logits' own memory.
template <typename T, typename Id>
void logits_sum_grad(const LogitsShape& shape, const T* logits, const simd::Accumulator<T>* maximum,
                     const Id* targets, const simd::Accumulator<T>* d_sum,
                     const simd::Accumulator<T>* d_target, T* dlogits);

// All of the above, row by row. With lse = maximum + log(sum_exp), d_sum is
// (d_lse + lse_slope * lse) / sum_exp. Each array has [rows] elements.
template <typename A>
struct CrossEntropyCotangents {
  const A *d_target, *d_lse, *lse_slope;  // lse_slope null: zeros
};
template <typename A>
struct CrossEntropyParts {
  A *maximum, *sum_exp, *target_logit;
};
template <typename T, typename Id>
void cross_entropy_with_grad(const LogitsShape& shape, const T* logits, const Id* targets,
                             const CrossEntropyCotangents<simd::Accumulator<T>>& cotangents,
                             const CrossEntropyParts<simd::Accumulator<T>>& parts, T* dlogits);

}  // namespace tessera::cpu
