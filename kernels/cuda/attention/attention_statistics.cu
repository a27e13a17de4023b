// What the kernels of tiles want to know beforehand. Of queries: delta = sum of out * dout over each head, beside the
// log-sum-exp in the form that the backward kernels want. Of segments: their ranges.
//
// Floor: memory, out and dout read once: 2 b lq h d elements. Eight lanes share a row: with 16 bytes each that
// is a head of 64 bf16 in one step. Segments are 4 b (lq + lk) bytes, nothing beside it.
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

// A warp for each range. `blocks` ranges in a sequence.
__global__ void __launch_bounds__(kThreads)
    segment_range_kernel(const int32_t* segments, int length, int blocks, int64_t count, SegmentRange* ranges) {
  static_assert(kSegmentRows == 32);
  const int64_t range = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (range >= count) return;
  const int64_t sequence = range / blocks;
  const int row = static_cast<int>(range % blocks) * 32 + static_cast<int>(threadIdx.x) % 32;
  int least = segments[sequence * length + min(row, length - 1)], largest = least;
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    least = min(least, __shfl_xor_sync(0xffffffffu, least, lanes));
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, lanes));
  }
  if (threadIdx.x % 32 == 0) ranges[range] = {least, largest};
}

void launch_segment_ranges(const int32_t* segments, int batch, int length, SegmentRange* ranges,
                           cudaStream_t stream) {
  const int64_t count = segment_ranges(batch, length);
  if (count == 0) return;
  launch(segment_range_kernel, dim3(grid_of(1, count, kThreads / 32)), dim3(kThreads), 0, stream, segments, length,
         static_cast<int>(count / batch), count, ranges);
}

}  // namespace

void find_segment_ranges(const AttentionShape& shape, cudaStream_t stream) {
  if (shape.q_segments == nullptr) return;
  launch_segment_ranges(shape.q_segments, shape.batch, shape.queries, shape.q_ranges, stream);
  if (shape.k_ranges != shape.q_ranges)
    launch_segment_ranges(shape.k_segments, shape.batch, shape.keys, shape.k_ranges, stream);
}

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
