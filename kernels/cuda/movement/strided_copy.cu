// Bound by memory: each element read and written once, 2 x bytes / bandwidth (reads of a broadcast source are
// fewer). Threads follow the target, so that writes are whole lines; four independent elements of up to 16
// bytes a thread keep the reads in flight. Positions come from one multiplication per dim (device/divide.h);
// grids of 2^31 elements and more divide.
#include "core/base/error.h"
#include "kernels/cuda/device/divide.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/movement/starts.h"
#include "kernels/cuda/movement/strided_copy.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kPerThread = 4;

template <typename D>
struct CopyDims {
  int rank;
  D size[kMaxCopyRank];
  int64_t from[kMaxCopyRank], to[kMaxCopyRank];
};

// Every T that is read is written N times.
template <typename T, int N, typename D, typename Index>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(int64_t total, CopyDims<D> dims, const T* from, Pack<T, N>* to, DeviceStarts starts) {
  const int64_t moved = starts.count == 0 ? 0 : start_of(starts);
  const int64_t first = int64_t{blockIdx.x} * (kThreads * kPerThread) + threadIdx.x;
  Index rest[kPerThread];
  int64_t source[kPerThread], target[kPerThread];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e) {
    rest[e] = static_cast<Index>(first + e * kThreads);
    source[e] = starts.moves_target ? 0 : moved;
    target[e] = starts.moves_target ? moved : 0;
  }
  for (int d = dims.rank - 1; d >= 0; --d) {
    const D size = dims.size[d];
    const int64_t from_step = dims.from[d], to_step = dims.to[d];
#pragma unroll
    for (int e = 0; e < kPerThread; ++e) {
      const Index above = d == 0 ? 0 : size.divide(rest[e]);
      const auto at = static_cast<int64_t>(rest[e] - above * size.divisor());
      source[e] += at * from_step;
      target[e] += at * to_step;
      rest[e] = above;
    }
  }
  T values[kPerThread];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e)
    if (first + e * kThreads < total) values[e] = from[source[e]];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e) {
    if (first + e * kThreads >= total) continue;
    Pack<T, N> pack;
#pragma unroll
    for (int k = 0; k < N; ++k) pack.value[k] = values[e];
    to[target[e]] = pack;
  }
}

template <typename T, int N, typename D, typename Index>
void launch_copy(int64_t total, const CopyShape& shape, const void* from, void* to, const DeviceStarts& starts,
                 cudaStream_t stream) {
  CopyDims<D> dims;
  dims.rank = shape.rank;
  for (int d = 0; d < kMaxCopyRank; ++d) {
    dims.size[d] = D(d < shape.rank ? shape.size[d] : 1);
    dims.from[d] = shape.from[d];
    dims.to[d] = shape.to[d];
  }
  TESSERA_CHECK(total / (kThreads * kPerThread) < (int64_t{1} << 31) - 1, "a copy of ", total, " elements");
  launch(copy_kernel<T, N, D, Index>, dim3(blocks_for(total, kThreads * kPerThread)), dim3(kThreads), 0, stream, total,
         dims, static_cast<const T*>(from), static_cast<Pack<T, N>*>(to), starts);
}

template <typename T, int N>
void copy_elements(const CopyShape& shape, const void* from, void* to, const DeviceStarts& starts,
                   cudaStream_t stream) {
  int64_t total = 1;
  for (int d = 0; d < shape.rank; ++d) total *= shape.size[d];
  if (total == 0) return;
  // Some threads stand behind the last element.
  if (total < (int64_t{1} << 31) - kThreads * kPerThread)
    launch_copy<T, N, Divisor, uint32_t>(total, shape, from, to, starts, stream);
  else
    launch_copy<T, N, WideDivisor, int64_t>(total, shape, from, to, starts, stream);
}

}  // namespace

void strided_copy(int bytes, const CopyShape& shape, const void* from, void* to, const DeviceStarts& starts,
                  cudaStream_t stream) {
  switch (bytes) {
    case 1: return copy_elements<uint8_t, 1>(shape, from, to, starts, stream);
    case 2: return copy_elements<uint16_t, 1>(shape, from, to, starts, stream);
    case 4: return copy_elements<uint32_t, 1>(shape, from, to, starts, stream);
    case 8: return copy_elements<uint64_t, 1>(shape, from, to, starts, stream);
    case 16: return copy_elements<Pack<uint32_t, 4>, 1>(shape, from, to, starts, stream);
    default: TESSERA_CHECK(false, "a copy of elements of ", bytes, " bytes");
  }
}

void splat_copy(int bytes, const CopyShape& shape, const void* from, void* to, const DeviceStarts& starts,
                cudaStream_t stream) {
  switch (bytes) {
    case 1: return copy_elements<uint8_t, 16>(shape, from, to, starts, stream);
    case 2: return copy_elements<uint16_t, 8>(shape, from, to, starts, stream);
    case 4: return copy_elements<uint32_t, 4>(shape, from, to, starts, stream);
    case 8: return copy_elements<uint64_t, 2>(shape, from, to, starts, stream);
    default: TESSERA_CHECK(false, "a broadcast of elements of ", bytes, " bytes");
  }
}

}  // namespace tessera::cuda
