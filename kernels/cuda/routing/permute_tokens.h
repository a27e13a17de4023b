// Tokens in the order of their experts, and back (core/ops/permute_tokens.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/number.h"

namespace tessera::cuda {

struct TokenMoves {
  int64_t tokens = 0, k = 0, rows = 0, width = 0;
  const int32_t* places = nullptr;  // [tokens, k]
};

// Of experts [count] the places in the order by expert, and how many each of `groups` has.
int64_t expert_order_workspace(int64_t groups, int64_t count);
void expert_order(const int32_t* experts, int64_t count, int64_t groups, int32_t* places, int32_t* sizes,
                  void* workspace, cudaStream_t stream);

// x [tokens, width] -> rows [rows, width]; weights [tokens, k] or null. Places are a permutation of the rows: those
// that none names are not written. Instances of all three: float, bf16.
template <typename T>
void permute_tokens(const TokenMoves& moves, const T* x, const float* weights, T* rows, cudaStream_t stream);
// rows -> y [tokens, width]
template <typename T>
void unpermute_tokens(const TokenMoves& moves, const T* rows, const float* weights, T* y, cudaStream_t stream);
// rows, x -> dots [tokens, k]
template <typename T>
void token_dots(const TokenMoves& moves, const T* rows, const T* x, float* dots, cudaStream_t stream);

}  // namespace tessera::cuda
