#include "kernels/cpu/dropout.h"

#include "kernels/common/simd.h"
#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kDropoutPiece = 16384;  // elements

TESSERA_INLINE simd::F32x16 keep(simd::F32x16 value, simd::F32x16 bits, uint32_t threshold) {
  const auto is_kept = ((simd::U32x16)bits >> 16) >= threshold;
  return is_kept ? value : simd::F32x16{};
}

}  // namespace

template <typename T>
void dropout(int64_t n, const DropoutMask& mask, const ShardRuns& runs, const T* x, T* y) {
  parallel_ranges(n, kDropoutPiece, [&](int64_t begin, int64_t end) {
    runs.each(begin, end, [&](int64_t at, int64_t index, int64_t count) {
      StepBits room;
      const bfloat16* bits = step_bits(mask.draw, index, count, room);
      if constexpr (std::is_same_v<T, double>) {
        for (int64_t i = 0; i < count; ++i) y[at + i] = bits[i].bits >= mask.threshold ? x[at + i] * mask.scale : 0;
      } else {
        const auto scale = static_cast<float>(mask.scale);
        simd::for_each_vector<float>(count, [&](auto load, auto store) __attribute__((always_inline)) {
          store(y + at, keep(load(x + at) * scale, load(bits), mask.threshold));
        });
      }
    });
  });
}

template void dropout(int64_t, const DropoutMask&, const ShardRuns&, const float*, float*);
template void dropout(int64_t, const DropoutMask&, const ShardRuns&, const double*, double*);
template void dropout(int64_t, const DropoutMask&, const ShardRuns&, const bfloat16*, bfloat16*);

}  // namespace tessera::cpu
