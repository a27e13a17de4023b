#include "kernels/cpu/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/pieces.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kUpdatePiece = 32768;  // elements

// Stores a vector as it is, or in bf16 to the neighbour that the bits choose.
TESSERA_INLINE simd::F32x16 round_by(simd::F32x16 value, simd::F32x16 bits) {
  const auto word = (simd::U32x16)value, random = (simd::U32x16)bits >> 16;
  const auto is_special = (word & 0x7f800000u) == 0x7f800000u;
  return (simd::F32x16)(is_special ? word : (word + random) & 0xffff0000u);
}

template <typename T>
struct Factors {
  T beta1, rest1, beta2, rest2, grad_scale, correct1, correct2, rate, epsilon;

  explicit Factors(const AdamWStep& step)
      : beta1(T(step.beta1)), rest1(T(1 - step.beta1)), beta2(T(step.beta2)), rest2(T(1 - step.beta2)),
        grad_scale(T(step.grad_scale)), correct1(T(1 / step.bias_correction1)),
        correct2(T(1 / step.bias_correction2)), rate(T(step.learning_rate)), epsilon(T(step.epsilon)) {}
};

// Random bits of a run's three tensors; those that are not bf16 have none.
struct Bits {
  const bfloat16 *param = nullptr, *m = nullptr, *v = nullptr;
};

template <bool kStochastic, typename T, typename P, typename M>
TESSERA_INLINE void update(const Factors<T>& f, const AdamWTensor<T, P, M>& t, int64_t begin, int64_t count,
                           const Bits& bits) {
  using V = simd::Vec<T>;
  const T decay = T(t.weight_decay);
  simd::for_each_vector<T>(count, [&](auto load, auto store) __attribute__((always_inline)) {
    const V g = load(t.grad + begin) * f.grad_scale;
    const V first = load(t.m + begin) * f.beta1 + g * f.rest1;
    const V second = load(t.v + begin) * f.beta2 + g * g * f.rest2;
    const V old = load(t.param + begin);
    const V root = simd::sqrt(second * f.correct2) + f.epsilon;
    const V updated = old - f.rate * (first * f.correct1 / root + decay * old);
    if constexpr (kStochastic && std::is_same_v<M, bfloat16>) {
      store(t.m_out + begin, round_by(first, load(bits.m)));
      store(t.v_out + begin, round_by(second, load(bits.v)));
    } else {
      store(t.m_out + begin, first);
      store(t.v_out + begin, second);
    }
    if constexpr (kStochastic && std::is_same_v<P, bfloat16>)
      store(t.param_out + begin, round_by(updated, load(bits.param)));
    else
      store(t.param_out + begin, updated);
  });
}

template <typename T, typename P, typename M>
void update_by_runs(const Factors<T>& f, const AdamWTensor<T, P, M>& t, int64_t begin, int64_t end) {
  t.runs->each(begin, end, [&](int64_t at, int64_t index, int64_t count) {
    StepBits rooms[3];
    const auto bits_of = [&](uint64_t part) {
      return step_bits({t.draw.seed, t.draw.site + part, t.draw.step}, index, count, rooms[part]);
    };
    Bits bits;
    if constexpr (std::is_same_v<P, bfloat16>) bits.param = bits_of(0);
    if constexpr (std::is_same_v<M, bfloat16>) {
      bits.m = bits_of(1);
      bits.v = bits_of(2);
    }
    update<true>(f, t, at, count, bits);
  });
}

template <typename State>
void keep(int64_t count, const State* from, State* to) {
  if (to != from) std::copy_n(from, count, to);
}

}  // namespace

template <typename T, typename P, typename M>
void adamw(const AdamWStep& step, std::span<const AdamWTensor<T, P, M>> tensors) {
  const Factors<T> factors(step);
  const bool is_skipped = !std::isfinite(step.grad_scale);
  for_each_piece(tensors, kUpdatePiece, [&](const AdamWTensor<T, P, M>& t, int64_t begin, int64_t end) {
    if (is_skipped) {
      keep(end - begin, t.param + begin, t.param_out + begin);
      keep(end - begin, t.m + begin, t.m_out + begin);
      keep(end - begin, t.v + begin, t.v_out + begin);
    } else if ((std::is_same_v<P, bfloat16> || std::is_same_v<M, bfloat16>) && t.runs != nullptr) {
      update_by_runs(factors, t, begin, end);
    } else {
      update<false>(factors, t, begin, end - begin, {});
    }
  });
}

template void adamw(const AdamWStep&, std::span<const AdamWTensor<float>>);
template void adamw(const AdamWStep&, std::span<const AdamWTensor<float, bfloat16, float>>);
template void adamw(const AdamWStep&, std::span<const AdamWTensor<float, float, bfloat16>>);
template void adamw(const AdamWStep&, std::span<const AdamWTensor<float, bfloat16, bfloat16>>);
template void adamw(const AdamWStep&, std::span<const AdamWTensor<double>>);

}  // namespace tessera::cpu
