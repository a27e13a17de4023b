// Bound by memory: the source read and the result written once. One pass over the result decides for each
// access whether it lies in the source, instead of a fill and a copy over it.
#include "core/base/error.h"
#include "kernels/cuda/device/divide.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/movement/pad.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kPerThread = 2;

template <typename D>
struct PadDims {
  PadShape shape;
  D size[kMaxPadRank];
};

template <typename T, int N, typename D, typename Index>
__global__ void __launch_bounds__(kThreads)
    pad_kernel(int64_t total, PadDims<D> dims, const Pack<T, N>* from, const T* value, Pack<T, N>* to) {
  const T outside = value == nullptr ? T(0) : *value;
  const int64_t first = int64_t{blockIdx.x} * (kThreads * kPerThread) + threadIdx.x;
  Index rest[kPerThread];
  int64_t source[kPerThread];
  bool is_inside[kPerThread];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e) {
    rest[e] = static_cast<Index>(first + e * kThreads);
    source[e] = 0;
    is_inside[e] = first + e * kThreads < total;
  }
  for (int d = dims.shape.rank - 1; d >= 0; --d) {
    const D size = dims.size[d];
    const int64_t low = dims.shape.low[d], step = dims.shape.step[d];
    const int64_t extent = dims.shape.extent[d], from_step = dims.shape.from[d];
#pragma unroll
    for (int e = 0; e < kPerThread; ++e) {
      const Index above = d == 0 ? 0 : size.divide(rest[e]);
      int64_t at = static_cast<int64_t>(rest[e] - above * size.divisor()) - low;
      rest[e] = above;
      if (step != 1) {
        const int64_t whole = at / step;
        is_inside[e] = is_inside[e] && whole * step == at;
        at = whole;
      }
      is_inside[e] = is_inside[e] && at >= 0 && at < extent;
      source[e] += at * from_step;
    }
  }
  Pack<T, N> packs[kPerThread];
#pragma unroll
  for (int e = 0; e < kPerThread; ++e) {
    if (is_inside[e]) {
      packs[e] = from[source[e]];
      continue;
    }
#pragma unroll
    for (int k = 0; k < N; ++k) packs[e].value[k] = outside;
  }
#pragma unroll
  for (int e = 0; e < kPerThread; ++e)
    if (first + e * kThreads < total) to[first + e * kThreads] = packs[e];
}

template <typename T, int N, typename D, typename Index>
void launch_pad(int64_t total, const PadShape& s, const void* from, const void* value, void* to,
                cudaStream_t stream) {
  PadDims<D> dims{.shape = s};
  for (int d = 0; d < s.rank; ++d) dims.size[d] = D(s.size[d]);
  TESSERA_CHECK(total / (kThreads * kPerThread) < (int64_t{1} << 31) - 1, "padding to ", total, " elements");
  launch(pad_kernel<T, N, D, Index>, dim3(blocks_for(total, kThreads * kPerThread)), dim3(kThreads), 0, stream, total,
         dims, static_cast<const Pack<T, N>*>(from), static_cast<const T*>(value), static_cast<Pack<T, N>*>(to));
}

template <typename T, int N>
void pad_elements(const PadShape& s, const void* from, const void* value, void* to, cudaStream_t stream) {
  int64_t total = 1;
  for (int d = 0; d < s.rank; ++d) total *= s.size[d];
  if (total == 0) return;
  if (total < (int64_t{1} << 31) - kThreads * kPerThread)
    launch_pad<T, N, Divisor, uint32_t>(total, s, from, value, to, stream);
  else
    launch_pad<T, N, WideDivisor, int64_t>(total, s, from, value, to, stream);
}

template <typename T>
void pad_packs(int pack, const PadShape& s, const void* from, const void* value, void* to, cudaStream_t stream) {
  if (pack == 1) return pad_elements<T, 1>(s, from, value, to, stream);
  TESSERA_CHECK(pack == kPackSize<T>, "padding by packs of ", pack);
  pad_elements<T, kPackSize<T>>(s, from, value, to, stream);
}

}  // namespace

void pad(int bytes, int pack, const PadShape& shape, const void* from, const void* value, void* to,
         cudaStream_t stream) {
  switch (bytes) {
    case 1: return pad_packs<uint8_t>(pack, shape, from, value, to, stream);
    case 2: return pad_packs<uint16_t>(pack, shape, from, value, to, stream);
    case 4: return pad_packs<uint32_t>(pack, shape, from, value, to, stream);
    case 8: return pad_packs<uint64_t>(pack, shape, from, value, to, stream);
    default: TESSERA_CHECK(false, "padding of elements of ", bytes, " bytes");
  }
}

}  // namespace tessera::cuda
