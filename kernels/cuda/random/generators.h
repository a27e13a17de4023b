// Philox4x32-10 and ThreeFry2x32 (20 rounds) of Salmon et al., SC 2011, in device code; the host's, to which
// they are equal bit by bit, are in core/ops/{philox,rng}.cpp.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

struct PhiloxWords {
  uint32_t word[4];
};

__device__ __forceinline__ PhiloxWords philox(PhiloxWords x, uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * x.word[0], b = uint64_t{0xCD9E8D57u} * x.word[2];
    x = {{static_cast<uint32_t>(b >> 32) ^ x.word[1] ^ key0, static_cast<uint32_t>(b),
          static_cast<uint32_t>(a >> 32) ^ x.word[3] ^ key1, static_cast<uint32_t>(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return x;
}

struct ThreeFryWords {
  uint32_t word[2];
};

__device__ __forceinline__ uint32_t rotate_left(uint32_t x, int bits) { return x << bits | x >> (32 - bits); }

__device__ __forceinline__ ThreeFryWords three_fry(uint32_t x0, uint32_t x1, uint32_t key0, uint32_t key1) {
  constexpr int kRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};  // table 2 of the paper
  const uint32_t keys[3] = {key0, key1, key0 ^ key1 ^ 0x1BD11BDAu};
  x0 += keys[0];
  x1 += keys[1];
#pragma unroll
  for (int group = 0; group < 5; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x0 += x1;
      x1 = rotate_left(x1, kRotations[group % 2][i]) ^ x0;
    }
    x0 += keys[(group + 1) % 3];
    x1 += keys[(group + 2) % 3] + static_cast<uint32_t>(group) + 1;
  }
  return {{x0, x1}};
}

}  // namespace tessera::cuda
