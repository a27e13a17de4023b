#include "kernels/cpu/step_bits.h"

#include <cstring>

#include "kernels/common/simd.h"

namespace tessera::cpu {
namespace {

constexpr int kBlocks = 16;  // of Philox at a time, one a lane
using simd::U32x16;
typedef uint64_t U64x8 __attribute__((vector_size(64)));
constexpr uint64_t kLow = 0xffffffff;

// The products of the even lanes of x, in 64 bits.
TESSERA_INLINE U64x8 even_products(U64x8 x, uint64_t factor) {
#if defined(__AVX512F__)
  return (U64x8)_mm512_maskz_mul_epu32(0xff, (__m512i)x, _mm512_set1_epi64(static_cast<long long>(factor)));
#else
  return (x & kLow) * factor;
#endif
}

// One multiplication of a round: the upper and lower halves of the products.
TESSERA_INLINE void multiply(uint64_t factor, U32x16 x, U32x16& high, U32x16& low) {
  const U64x8 even = even_products((U64x8)x, factor), odd = even_products((U64x8)x >> 32, factor);
  high = (U32x16)((even >> 32) | (odd & ~kLow));
  low = (U32x16)((even & kLow) | (odd << 32));
}

// Philox4x32-10 as in core/ops/philox.cpp, on blocks [block, block + kBlocks).
void philox_blocks(const StepDraw& draw, uint64_t block, uint32_t* to) {
  U32x16 x0, x1;
  for (int i = 0; i < kBlocks; ++i) {
    const uint64_t counter = block + static_cast<uint64_t>(i);
    x0[i] = static_cast<uint32_t>(counter);
    x1[i] = static_cast<uint32_t>(counter >> 32);
  }
  U32x16 x2 = U32x16{} + static_cast<uint32_t>(draw.step), x3 = U32x16{} + static_cast<uint32_t>(draw.seed >> 32);
  uint32_t key0 = static_cast<uint32_t>(draw.seed), key1 = static_cast<uint32_t>(draw.site);
  for (int round = 0; round < 10; ++round) {
    U32x16 high_a, low_a, high_b, low_b;
    multiply(0xD2511F53, x0, high_a, low_a);
    multiply(0xCD9E8D57, x2, high_b, low_b);
    x0 = high_b ^ x1 ^ key0;
    x1 = low_b;
    x2 = high_a ^ x3 ^ key1;
    x3 = low_a;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  for (int i = 0; i < kBlocks; ++i) {
    to[4 * i] = x0[i];
    to[4 * i + 1] = x1[i];
    to[4 * i + 2] = x2[i];
    to[4 * i + 3] = x3[i];
  }
}

}  // namespace

const bfloat16* step_bits(const StepDraw& draw, int64_t index, int64_t count, StepBits& room) {
  const auto first = static_cast<uint64_t>(index) / 8, last = static_cast<uint64_t>(index + count - 1) / 8;
  for (uint64_t block = first; block <= last; block += kBlocks) {
    uint32_t words[4 * kBlocks];
    philox_blocks(draw, block, words);
    std::memcpy(room.words + 8 * (block - first), words, sizeof(words));
  }
  return reinterpret_cast<const bfloat16*>(room.words + index % 8);
}

}  // namespace tessera::cpu
