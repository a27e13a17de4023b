// The random bits of a training step in device code: step_bits of core/ops/philox.h.
#pragma once

#include "kernels/cuda/random/generators.h"
#include "kernels/cuda/random/place_of.h"

namespace tessera::cuda {

constexpr int kStepBitsPerBlock = 8;  // elements that share a block of Philox

// Those of elements 8 block ... 8 block + 7, two a word, the lower half first.
__device__ __forceinline__ PhiloxWords step_bits(uint64_t seed, uint32_t site, uint32_t step, uint64_t block) {
  return philox({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), step,
                  static_cast<uint32_t>(seed >> 32)}},
                static_cast<uint32_t>(seed), site);
}
// Those of element i of 8, where i is known when it is compiled.
__device__ __forceinline__ uint32_t half_of(const PhiloxWords& words, int i) {
  return i % 2 == 0 ? words.word[i / 2] & 0xffffu : words.word[i / 2] >> 16;
}
__device__ __forceinline__ uint32_t step_bits_of(uint64_t seed, uint32_t site, uint32_t step, uint64_t index) {
  const PhiloxWords words = step_bits(seed, site, step, index / kStepBitsPerBlock);
  const uint32_t low = index & 2 ? words.word[1] : words.word[0], high = index & 2 ? words.word[3] : words.word[2];
  const uint32_t word = index & 4 ? high : low;
  return index & 1 ? word >> 16 : word & 0xffffu;
}

// Whether elements [at, at + 8) of a shard are those of one block; `index` is the first one's in the whole.
template <typename Places>
__device__ __forceinline__ bool is_whole_block(const Places& places, int64_t at, int64_t index) {
  if (index % kStepBitsPerBlock != 0 || places.stride[places.rank - 1] != 1) return false;
  const int64_t row = places.size[places.rank - 1];
  return places.rank == 1 || row % kStepBitsPerBlock == 0 || at % row + kStepBitsPerBlock <= row;
}

}  // namespace tessera::cuda
