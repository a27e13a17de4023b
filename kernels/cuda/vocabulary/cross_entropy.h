// The parts of softmax cross-entropy that touch logits: maximum, sum of exponentials with the target's logit,
// and the gradient. Each works on a shard of the vocabulary alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

inline constexpr int64_t kLogitsMostColumns = int64_t{1} << 30;

// Rows of logits [rows, columns], of which column 0 is vocabulary entry *start (device memory; null: 0). Entries
// at or above `valid_size` are padding and take no part.
struct LogitsShape {
  int64_t rows = 0, columns = 0, valid_size = 0;
  const int64_t* start = nullptr;
};

// maximum [rows]; -infinity where the shard has padding alone, NaN where the row has one. T is float or bf16.
template <typename T>
void logits_max(const LogitsShape& shape, const T* logits, float* maximum, cudaStream_t stream);

// sum_exp [rows] = sum of exp(logit - maximum); target_logit [rows], 0 where the target lies outside the shard.
// Id is int32_t or int64_t.
template <typename T, typename Id>
void logits_sum(const LogitsShape& shape, const T* logits, const float* maximum, const Id* targets, float* sum_exp,
                float* target_logit, cudaStream_t stream);

// dlogits = exp(logit - maximum) * d_sum + onehot(target) * d_target, rounded once; 0 in padding. dlogits may be
// the logits' own memory.
template <typename T, typename Id>
void logits_sum_grad(const LogitsShape& shape, const T* logits, const float* maximum, const Id* targets,
                     const float* d_sum, const float* d_target, T* dlogits, cudaStream_t stream);

// All of the above for a whole vocabulary (no start) in one pass over the logits: the cotangents are there
// beforehand. With lse = maximum + log(sum_exp), d_sum is (d_lse + lse_slope * lse) / sum_exp. All but logits and
// dlogits [rows, columns] have [rows] elements. dlogits may be the logits' own memory.
template <typename T>
struct CrossEntropyRows {
  LogitsShape shape;
  const T* logits = nullptr;
  const int32_t* targets = nullptr;  // null: they are in wide_targets
  const int64_t* wide_targets = nullptr;
  const float *d_target = nullptr, *d_lse = nullptr, *lse_slope = nullptr;  // lse_slope null: zeros
  float *maximum = nullptr, *sum_exp = nullptr, *target_logit = nullptr;
  T* dlogits = nullptr;
};
template <typename T>
void cross_entropy_with_grad(const CrossEntropyRows<T>& rows, cudaStream_t stream);

}  // namespace tessera::cuda
