// Bound by memory: the result written once, bytes / bandwidth. Masks touch the padding only, however large the
// tensor is.
#include "kernels/cuda/movement/make.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kPerThread = 4;

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) fill_kernel(int64_t count, T element, T* to) {
  Pack<T, N> pack;
#pragma unroll
  for (int k = 0; k < N; ++k) pack.value[k] = element;
  const int64_t first = int64_t{blockIdx.x} * (kThreads * kPerThread) + threadIdx.x, packs = count / N;
#pragma unroll
  for (int e = 0; e < kPerThread; ++e)
    if (first + e * kThreads < packs) store(to + (first + e * kThreads) * N, pack);
  const int64_t rest = packs * N + first;
  if (N > 1 && rest < count) to[rest] = element;
}

template <typename T>
void fill_with(uint64_t bits, int64_t count, void* to, cudaStream_t stream) {
  constexpr int kWide = kPackSize<T>;
  const int64_t per_block = int64_t{kThreads} * kPerThread * (are_aligned(16, to) ? kWide : 1);
  launch(are_aligned(16, to) ? fill_kernel<T, kWide> : fill_kernel<T, 1>, dim3(blocks_for(count, per_block)),
         dim3(kThreads), 0, stream, count, static_cast<T>(bits), static_cast<T*>(to));
}

// As much as travels in a launch beside its other parameters.
constexpr int64_t kPiece = 2048;
struct TablePiece {
  unsigned char bytes[kPiece];
};

__global__ void table_kernel(const TablePiece piece, int bytes, unsigned char* to) {
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x)) to[i] = piece.bytes[i];
}

template <typename T>
__device__ __forceinline__ T number_from(int64_t x) {
  if constexpr (std::is_same_v<T, bf16>) return from_float<bf16>(static_cast<float>(x));
  else return static_cast<T>(x);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    iota_kernel(int64_t total, int64_t size, int64_t inner, const int64_t* start, T* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t before = start == nullptr ? 0 : *start;
  const bool is_small = total < int64_t{1} << 31;  // then 32-bit divisions do
  const int64_t row = is_small ? static_cast<uint32_t>(i) / static_cast<uint32_t>(inner) : i / inner;
  const int64_t at = is_small ? static_cast<uint32_t>(row) % static_cast<uint32_t>(size) : row % size;
  to[i] = number_from<T>(before + at);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) mask_kernel(int64_t outer, int64_t size, int64_t inner,
                                                        const int64_t* start, int64_t limit, T element, T* to) {
  int64_t valid = limit - (start == nullptr ? 0 : *start);
  valid = valid < 0 ? 0 : valid > size ? size : valid;
  const int64_t run = (size - valid) * inner, stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < outer * run; i += stride)
    to[(i / run * size + valid) * inner + i % run] = element;
}

}  // namespace

void fill_elements(int bytes, uint64_t bits, int64_t count, void* to, cudaStream_t stream) {
  if (count == 0) return;
  unsigned char each[8];
  std::memcpy(each, &bits, 8);
  if (std::all_of(each, each + bytes, [&](unsigned char byte) { return byte == each[0]; }))
    return check(cudaMemsetAsync(to, each[0], static_cast<size_t>(count * bytes), stream), "memset");
  switch (bytes) {
    case 2: return fill_with<uint16_t>(bits, count, to, stream);
    case 4: return fill_with<uint32_t>(bits, count, to, stream);
    case 8: return fill_with<uint64_t>(bits, count, to, stream);
    default: TESSERA_CHECK(false, "an element of ", bytes, " bytes");
  }
}

void write_table(const void* host, int64_t bytes, void* to, cudaStream_t stream) {
  const auto* from = static_cast<const unsigned char*>(host);
  for (int64_t done = 0; done < bytes; done += kPiece) {
    TablePiece piece;
    const auto count = static_cast<int>(std::min(kPiece, bytes - done));
    std::memcpy(piece.bytes, from + done, static_cast<size_t>(count));
    launch(table_kernel, dim3(1), dim3(kThreads), 0, stream, piece, count, static_cast<unsigned char*>(to) + done);
  }
}

template <typename T>
void iota(int64_t outer, int64_t size, int64_t inner, const int64_t* start, T* to, cudaStream_t stream) {
  const int64_t total = outer * size * inner;
  if (total == 0) return;
  TESSERA_CHECK(total / kThreads < (int64_t{1} << 31) - 1, "an iota of ", total, " elements");
  launch(iota_kernel<T>, dim3(blocks_for(total, kThreads)), dim3(kThreads), 0, stream, total, size, inner, start, to);
}

template void iota(int64_t, int64_t, int64_t, const int64_t*, uint8_t*, cudaStream_t);
template void iota(int64_t, int64_t, int64_t, const int64_t*, uint16_t*, cudaStream_t);
template void iota(int64_t, int64_t, int64_t, const int64_t*, uint32_t*, cudaStream_t);
template void iota(int64_t, int64_t, int64_t, const int64_t*, uint64_t*, cudaStream_t);
template void iota(int64_t, int64_t, int64_t, const int64_t*, float*, cudaStream_t);
template void iota(int64_t, int64_t, int64_t, const int64_t*, double*, cudaStream_t);
template void iota(int64_t, int64_t, int64_t, const int64_t*, bf16*, cudaStream_t);

void mask_from(int bytes, int64_t outer, int64_t size, int64_t inner, const int64_t* start, int64_t limit,
               uint64_t bits, void* to, int multiprocessors, cudaStream_t stream) {
  if (outer * size * inner == 0) return;
  const auto masked = [&]<typename T>() {
    const unsigned blocks = blocks_for(outer * size * inner, kThreads, 8 * multiprocessors);
    launch(mask_kernel<T>, dim3(blocks), dim3(kThreads), 0, stream, outer, size, inner, start, limit,
           static_cast<T>(bits), static_cast<T*>(to));
  };
  switch (bytes) {
    case 1: return masked.template operator()<uint8_t>();
    case 2: return masked.template operator()<uint16_t>();
    case 4: return masked.template operator()<uint32_t>();
    case 8: return masked.template operator()<uint64_t>();
    default: TESSERA_CHECK(false, "a mask over elements of ", bytes, " bytes");
  }
}

}  // namespace tessera::cuda
