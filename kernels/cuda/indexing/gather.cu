// Bound by memory: the result's bytes read and written, and the indices: (2 x bytes + indices) / bandwidth.
// Threads follow the result with accesses of up to 16 bytes; all accesses of one window read the same index,
// which comes from the cache.
#include "core/base/error.h"
#include "kernels/cuda/device/divide.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/indexing/gather.h"
#include "kernels/cuda/movement/starts.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kPerThread = 4;

template <typename D>
struct GatherDims {
  GatherShape shape;
  D size[kMaxIndexRank];
};

template <typename T, typename D, typename Index>
__global__ void __launch_bounds__(kThreads) gather_kernel(int64_t total, GatherDims<D> g, const T* from, T* to) {
  const int64_t first = int64_t{blockIdx.x} * (kThreads * kPerThread) + threadIdx.x;
  Index rest[kPerThread];
  int64_t source[kPerThread], vector[kPerThread];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e) {
    rest[e] = static_cast<Index>(first + e * kThreads < total ? first + e * kThreads : 0);
    source[e] = vector[e] = 0;
  }
  for (int d = g.shape.rank - 1; d >= 0; --d) {
    const D size = g.size[d];
    const int64_t from_step = g.shape.from[d], index_step = g.shape.index[d];
#pragma unroll
    for (int e = 0; e < kPerThread; ++e) {
      const Index above = d == 0 ? 0 : size.divide(rest[e]);
      const auto at = static_cast<int64_t>(rest[e] - above * size.divisor());
      source[e] += at * from_step;
      vector[e] += at * index_step;
      rest[e] = above;
    }
  }
  const IndexVectors& v = g.shape.vectors;
  for (int k = 0; k < v.components; ++k) {
    const int64_t last = g.shape.last[k], stride = g.shape.stride[k];
#pragma unroll
    for (int e = 0; e < kPerThread; ++e) {
      const int64_t index = load_index(v.indices, vector[e] + k * v.component_step, v.bytes, v.is_signed);
      source[e] += (index < 0 ? 0 : index > last ? last : index) * stride;
    }
  }
  T values[kPerThread];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e) values[e] = from[source[e]];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e)
    if (first + e * kThreads < total) to[first + e * kThreads] = values[e];
}

template <typename T, typename D, typename Index>
void launch_gather(int64_t total, const GatherShape& shape, const void* from, void* to, cudaStream_t stream) {
  GatherDims<D> dims{.shape = shape, .size = {}};
  for (int d = 0; d < shape.rank; ++d) dims.size[d] = D(shape.size[d]);
  TESSERA_CHECK(total / (kThreads * kPerThread) < (int64_t{1} << 31) - 1, "a gather of ", total, " elements");
  launch(gather_kernel<T, D, Index>, dim3(blocks_for(total, kThreads * kPerThread)), dim3(kThreads), 0, stream, total,
         dims, static_cast<const T*>(from), static_cast<T*>(to));
}

template <typename T>
void gather_elements(const GatherShape& shape, const void* from, void* to, cudaStream_t stream) {
  int64_t total = 1;
  for (int d = 0; d < shape.rank; ++d) total *= shape.size[d];
  if (total == 0) return;
  if (total < (int64_t{1} << 31) - kThreads * kPerThread)
    launch_gather<T, Divisor, uint32_t>(total, shape, from, to, stream);
  else
    launch_gather<T, WideDivisor, int64_t>(total, shape, from, to, stream);
}

}  // namespace

void gather(int bytes, const GatherShape& shape, const void* from, void* to, cudaStream_t stream) {
  switch (bytes) {
    case 1: return gather_elements<uint8_t>(shape, from, to, stream);
    case 2: return gather_elements<uint16_t>(shape, from, to, stream);
    case 4: return gather_elements<uint32_t>(shape, from, to, stream);
    case 8: return gather_elements<uint64_t>(shape, from, to, stream);
    case 16: return gather_elements<Pack<uint32_t, 4>>(shape, from, to, stream);
    default: TESSERA_CHECK(false, "a gather of ", bytes, " bytes");
  }
}

}  // namespace tessera::cuda
