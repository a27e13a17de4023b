// The router of experts (core/ops/routing.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/number.h"

namespace tessera::cuda {

// What a warp holds in its registers.
inline constexpr int64_t kMostExperts = 512, kMostChosen = 32;

struct RoutingShape {
  int64_t tokens = 0;
  int experts = 0, k = 0;
  int64_t bias_step = 0;  // from token to token: 0, or experts
  bool is_sigmoid = false, normalize = true, is_bf16 = false;  // of the logits
  float scale = 1.0f;
};

// logits [tokens, experts], bias [experts], [tokens, experts] or null -> weights, chosen [tokens, k]
void top_k_routing(const RoutingShape& shape, const void* logits, const float* bias, float* weights, int32_t* chosen,
                   cudaStream_t stream);
// d_logits like logits
void top_k_routing_grad(const RoutingShape& shape, const void* logits, const int32_t* chosen, const float* d_weights,
                        void* d_logits, cudaStream_t stream);

}  // namespace tessera::cuda
