// delta = sum of out * dout over each head, beside the log-sum-exp in the form that the backward kernels want.
//
// Floor: memory, out and dout read once: 2 b lq h d elements. Eight lanes share a row: with 16 bytes each that
// is a head of 64 bf16 in one step.
#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kLanes = 8;

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(AttentionShape shape, const T* out, const float* lse, const T* dout,
                      RowStatistics* statistics) {
  const int64_t rows = int64_t{shape.batch} * shape.queries * shape.heads;
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kLanes) + threadIdx.x / kLanes;
  float delta = 0.0f;
  if (row < rows) {
    for (int i = static_cast<int>(threadIdx.x) % kLanes * kPack; i < shape.head_dim; i += kLanes * kPack) {
      const auto a = load<kPack>(out + row * shape.head_dim + i), b = load<kPack>(dout + row * shape.head_dim + i);
#pragma unroll
      for (int j = 0; j < kPack; ++j) delta = fmaf(to_float(a.value[j]), to_float(b.value[j]), delta);
    }
  }
#pragma unroll
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, lanes);
  if (row >= rows || threadIdx.x % kLanes != 0) return;
  const int head = static_cast<int>(row % shape.heads);
  const int64_t position = row / shape.heads;
  const int64_t at = statistics_offset(shape, static_cast<int>(position / shape.queries),
                                       static_cast<int>(position % shape.queries), head);
  statistics[at] = {lse[at] == -INFINITY ? INFINITY : lse[at] * kLog2E, delta};
}

}  // namespace

template <typename T>
void attention_statistics(const AttentionShape& shape, const T* out, const float* lse, const T* dout,
                          RowStatistics* statistics, cudaStream_t stream) {
  const unsigned grid = grid_of(1, int64_t{shape.batch} * shape.queries * shape.heads, kThreads / kLanes);
  if (grid == 0) return;
  const auto with = [&]<int kPack>() {
    launch(statistics_kernel<T, kPack>, dim3(grid), dim3(kThreads), 0, stream, shape, out, lse, dout, statistics);
  };
  if (shape.head_dim % kPackSize<T> == 0) return with.template operator()<kPackSize<T>>();
  with.template operator()<1>();
}

template void attention_statistics(const AttentionShape&, const float*, const float*, const float*, RowStatistics*,
                                   cudaStream_t);
template void attention_statistics(const AttentionShape&, const bf16*, const float*, const bf16*, RowStatistics*,
                                   cudaStream_t);

}  // namespace tessera::cuda
