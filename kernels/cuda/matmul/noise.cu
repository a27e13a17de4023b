// Floor: the bytes written. Used only to measure other kernels, and kept simple.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/matmul/noise.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;

// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
__device__ __forceinline__ uint64_t scramble(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

template <typename Word>
__global__ void noise_kernel(Word* to, Word one, Word random, int64_t count) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    const uint64_t bits = scramble((static_cast<uint64_t>(i) + 1) * 0x9e3779b97f4a7c15ull);
    to[i] = static_cast<Word>(one | (static_cast<Word>(bits) & random));
  }
}

template <typename Word>
void fill_words(void* to, uint64_t one, uint64_t mantissa, int64_t count, cudaStream_t stream) {
  constexpr uint64_t kSign = uint64_t{1} << (8 * sizeof(Word) - 1);
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  launch(noise_kernel<Word>, dim3(static_cast<unsigned>(blocks < 4096 ? blocks : 4096)), dim3(kThreads), 0, stream,
         static_cast<Word*>(to), static_cast<Word>(one), static_cast<Word>(mantissa | kSign), count);
}

}  // namespace

void fill_noise(void* to, int64_t element_bytes, uint64_t one, uint64_t mantissa, int64_t count,
                cudaStream_t stream) {
  if (count == 0) return;
  if (element_bytes == 2) return fill_words<uint16_t>(to, one, mantissa, count, stream);
  if (element_bytes == 4) return fill_words<uint32_t>(to, one, mantissa, count, stream);
  fill_words<uint64_t>(to, one, mantissa, count, stream);
}

}  // namespace tessera::cuda
