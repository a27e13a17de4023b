// The router: the k best of a token's experts and what they count. A warp has a token and holds its logits in
// registers; a choice takes two reductions over the warp by one instruction each (redux).
//
// Floor: the logits once, 8192 tokens and 64 experts in f32 are 2 MB, less than the launch takes; what counts
// is that the k steps of a token are in order and other warps fill the gaps. Not yet timed on a GPU.
#include <climits>

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/number.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/routing/routing.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr float kSumFloor = 1e-20f;  // ops::kSigmoidSumFloor
constexpr int kTaken = INT_MIN;      // below the rank of every number

__device__ __forceinline__ float logit_at(const RoutingShape& s, const void* logits, int64_t index) {
  return s.is_bf16 ? to_float(static_cast<const bf16*>(logits)[index]) : static_cast<const float*>(logits)[index];
}

// An integer that orders as the number does, -0 below +0 and NaN above infinity.
__device__ __forceinline__ int rank_of(float x) {
  if (x != x) return INT_MAX;
  const int bits = __float_as_int(x);
  return bits < 0 ? bits ^ INT_MAX : bits;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Expert i of a lane is lane + 32 i.
template <int kOwn>
struct Row {
  float logit[kOwn];
  // Of the softmax over all.
  float largest, inverse;

  __device__ __forceinline__ Row(const RoutingShape& s, const void* logits, int64_t token, int lane) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      logit[i] = lane + 32 * i < s.experts ? logit_at(s, logits, token * s.experts + lane + 32 * i) : -INFINITY;
    largest = inverse = 0.0f;
  }
  __device__ __forceinline__ void find_softmax(const RoutingShape& s, int lane) {
    largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) largest = fmaxf(largest, logit[i]);
    largest = warp_reduce(largest, Max());
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      if (lane + 32 * i < s.experts) sum += expf(logit[i] - largest);
    inverse = 1.0f / warp_reduce(sum, Sum());
  }
  __device__ __forceinline__ float softmax(float x) const { return expf(x - largest) * inverse; }
};

// One chosen expert per lane: its score, and what all scores are multiplied by.
struct Chosen {
  float score, factor;
};
template <int kOwn>
__device__ __forceinline__ Chosen score_chosen(const RoutingShape& s, const Row<kOwn>& row, float logit, bool is_chosen) {
  Chosen chosen{0.0f, s.scale};
  if (s.is_sigmoid) {
    chosen.score = is_chosen ? sigmoid(logit) : 0.0f;
    if (s.normalize) chosen.factor = s.scale / (warp_reduce(chosen.score, Sum()) + kSumFloor);
  } else if (s.normalize) {
    const float largest = warp_reduce(is_chosen ? logit : -INFINITY, Max());
    const float power = is_chosen ? expf(logit - largest) : 0.0f;
    chosen.score = power / warp_reduce(power, Sum());
  } else {
    chosen.score = is_chosen ? row.softmax(logit) : 0.0f;
  }
  return chosen;
}

template <int kOwn>
__global__ void __launch_bounds__(kThreads)
    routing_kernel(RoutingShape s, const void* logits, const float* bias, float* weights, int32_t* chosen) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t step = int64_t{gridDim.x} * kWarps;
  for (int64_t token = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; token < s.tokens; token += step) {
    Row<kOwn> row(s, logits, token, lane);
    if (!s.is_sigmoid && (!s.normalize || bias != nullptr)) row.find_softmax(s, lane);
    int rank[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int expert = lane + 32 * i;
      rank[i] = kTaken;
      if (expert >= s.experts) continue;
      float by = row.logit[i];
      if (bias != nullptr) by = (s.is_sigmoid ? sigmoid(by) : row.softmax(by)) + bias[token * s.bias_step + expert];
      rank[i] = rank_of(by);
    }
    int own = 0;  // lane j keeps choice j
    for (int j = 0; j < s.k; ++j) {
      int best = kTaken, at = 0;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        if (rank[i] > best) {
          best = rank[i];
          at = i;
        }
      }
      const int best_of_all = __reduce_max_sync(kAllLanes, best);
      const int winner = __reduce_min_sync(kAllLanes, best == best_of_all ? lane + 32 * at : INT_MAX);
#pragma unroll
      for (int i = 0; i < kOwn; ++i)
        if (winner == lane + 32 * i) rank[i] = kTaken;
      if (lane == j) own = winner;
    }
    const bool is_chosen = lane < s.k;
    const float logit = is_chosen ? logit_at(s, logits, token * s.experts + own) : 0.0f;
    const Chosen mine = score_chosen(s, row, logit, is_chosen);
    if (is_chosen) {
      weights[token * s.k + lane] = mine.score * mine.factor;
      chosen[token * s.k + lane] = own;
    }
  }
}

// The formulas stand in core/ops/routing.cpp.
template <int kOwn>
__global__ void __launch_bounds__(kThreads)
    routing_grad_kernel(RoutingShape s, const void* logits, const int32_t* experts, const float* d_weights,
                        void* d_logits) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t step = int64_t{gridDim.x} * kWarps;
  for (int64_t token = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; token < s.tokens; token += step) {
    Row<kOwn> row(s, logits, token, lane);
    const bool is_over_all = !s.is_sigmoid && !s.normalize;
    if (is_over_all) row.find_softmax(s, lane);
    int expert = -1;
    float g = 0.0f;
    if (lane < s.k) {
      expert = experts[token * s.k + lane];
      g = d_weights[token * s.k + lane];
    }
    const bool is_chosen = expert >= 0 && expert < s.experts;
    const float logit = is_chosen ? logit_at(s, logits, token * s.experts + expert) : 0.0f;
    const Chosen mine = score_chosen(s, row, logit, is_chosen);
    const float dot = warp_reduce(is_chosen ? g * mine.score : 0.0f, Sum());
    float slope = mine.score * mine.factor;
    if (s.is_sigmoid) slope *= 1.0f - mine.score;
    if (s.normalize) g -= s.is_sigmoid ? dot * (mine.factor / s.scale) : dot;
    const float addend = is_chosen ? slope * g : 0.0f;

    float d[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) d[i] = is_over_all ? -s.scale * row.softmax(row.logit[i]) * dot : 0.0f;
    for (int j = 0; j < s.k; ++j) {
      const int to = __shfl_sync(kAllLanes, expert, j);
      const float value = __shfl_sync(kAllLanes, addend, j);
#pragma unroll
      for (int i = 0; i < kOwn; ++i)
        if (to == lane + 32 * i) d[i] += value;
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (lane + 32 * i >= s.experts) continue;
      const int64_t at = token * s.experts + lane + 32 * i;
      if (s.is_bf16)
        static_cast<bf16*>(d_logits)[at] = from_float<bf16>(d[i]);
      else
        static_cast<float*>(d_logits)[at] = d[i];
    }
  }
}

template <typename Body>
void dispatch_own(int experts, Body&& body) {
  if (experts <= 64) return body.template operator()<2>();
  if (experts <= 256) return body.template operator()<8>();
  body.template operator()<16>();
}

}  // namespace

void top_k_routing(const RoutingShape& shape, const void* logits, const float* bias, float* weights, int32_t* chosen,
                   cudaStream_t stream) {
  if (shape.tokens == 0) return;
  dispatch_own(shape.experts, [&]<int kOwn>() {
    launch(routing_kernel<kOwn>, dim3(blocks_for(shape.tokens, kWarps)), dim3(kThreads), 0, stream, shape, logits, bias,
           weights, chosen);
  });
}

void top_k_routing_grad(const RoutingShape& shape, const void* logits, const int32_t* chosen, const float* d_weights,
                        void* d_logits, cudaStream_t stream) {
  if (shape.tokens == 0 || shape.experts == 0) return;
  dispatch_own(shape.experts, [&]<int kOwn>() {
    launch(routing_grad_kernel<kOwn>, dim3(blocks_for(shape.tokens, kWarps)), dim3(kThreads), 0, stream, shape, logits,
           chosen, d_weights, d_logits);
  });
}

}  // namespace tessera::cuda
