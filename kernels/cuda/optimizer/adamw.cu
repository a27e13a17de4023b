// Bound by memory: 28 bytes a parameter (param, m, v and grad read, param, m and v written, once each), some 30
// FLOPs and a square root against them. Floor: 28 n / bandwidth, 5.8 us for a million parameters at 4.8 TB/s.
//
// A thread has four loads of 16 bytes in flight, which at full occupancy is several times what the latency
// of memory needs. One launch for each tensor: the executor runs an op per tensor, and in a replayed graph
// launches follow each other without a gap that a list of tensors in one launch would save. Only tensors of
// some thousand elements (biases, norms) do not fill the device by themselves.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/optimizer/adamw.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;

struct Step {
  bool is_skipped;
  float grad_scale, rate, correct1, correct2;
};

template <int N>
__device__ __forceinline__ void update(int64_t at, const AdamWTensors& t, const Step& step,
                                       const AdamWFactors& f) {
  auto param = load<N>(t.param + at), m = load<N>(t.m + at), v = load<N>(t.v + at);
  const auto grad = load<N>(t.grad + at);
  if (!step.is_skipped) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float g = grad.value[i] * step.grad_scale, old = param.value[i];
      const float first = f.beta1 * m.value[i] + f.rest1 * g;
      const float second = f.beta2 * v.value[i] + f.rest2 * g * g;
      const float root = sqrtf(second * step.correct2) + f.epsilon;
      param.value[i] = old - step.rate * (first * step.correct1 / root + f.weight_decay * old);
      m.value[i] = first;
      v.value[i] = second;
    }
  }
  store(t.param_out + at, param);
  store(t.m_out + at, m);
  store(t.v_out + at, v);
}

// Packs of N elements, and what is left over one by one.
template <int N>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(int64_t n, AdamWTensors t, AdamWScalars scalars, AdamWFactors factors) {
  const float grad_scale = *scalars.grad_scale;
  const Step step{!(fabsf(grad_scale) < INFINITY), grad_scale, *scalars.learning_rate,
                  1.0f / *scalars.bias_correction1, 1.0f / *scalars.bias_correction2};
  if (step.is_skipped && t.param_out == t.param && t.m_out == t.m && t.v_out == t.v) return;
  const int64_t packs = n / N, stride = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t i = first; i < packs; i += stride) update<N>(i * N, t, step, factors);
  if (N > 1 && packs * N + first < n) update<1>(packs * N + first, t, step, factors);
}

}  // namespace

void adamw(int64_t n, const AdamWTensors& t, const AdamWScalars& scalars, const AdamWFactors& factors,
           int multiprocessors, cudaStream_t stream) {
  if (n == 0) return;
  constexpr int kWide = kPackSize<float>;
  const bool is_wide = are_aligned(16, t.param, t.m, t.v, t.grad, t.param_out, t.m_out, t.v_out);
  const unsigned blocks = blocks_for(n, int64_t{kThreads} * (is_wide ? kWide : 1), 8 * multiprocessors);
  launch(is_wide ? adamw_kernel<kWide> : adamw_kernel<1>, dim3(blocks), dim3(kThreads), 0, stream, n, t, scalars,
         factors);
}

}  // namespace tessera::cuda
