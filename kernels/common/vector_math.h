// exp, log, tanh, erf and the logistic function on vectors of f32, within 2 ulp of the exact value
// over the whole range, infinities, NaN and subnormals included. No tables: the polynomials are
// Chebyshev fits (mpmath's chebyfit) of the functions named beside them. f64 goes through libm lane
// by lane; it is the precision of tests, not of training.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/common/simd.h"

namespace tessera::simd {

// e^x = 2^n e^r with n = round(x / ln 2), so that |r| <= ln(2) / 2.
TESSERA_INLINE F32x16 exp(F32x16 x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  // Beyond these the result is 0 or infinity anyway; NaN passes both comparisons untouched.
  const F32x16 clamped = x < -104.0f ? broadcast(-104.0f) : (x > 89.0f ? broadcast(89.0f) : x);
  const F32x16 shifted = clamped * 1.44269504f + kRound;
  const F32x16 n = shifted - kRound;
  // ln 2 in two parts, the first exact in products with |n| < 2^8.
  const F32x16 r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  F32x16 p = r * 0.001392692661f + 0.008363773874f;  // (e^r - 1 - r) / r^2
  p = p * r + 0.04166655011f;
  p = p * r + 0.1666657338f;
  p = p * r + 0.5f;
  p = (p * r) * r + r + 1.0f;
  // 2^n in two factors: n reaches beyond what one exponent field can hold.
  const I32x16 whole = (I32x16)shifted - (I32x16)broadcast(kRound);
  const I32x16 half = whole >> 1;
  const F32x16 low = (F32x16)((half + 127) << 23);
  const F32x16 high = (F32x16)((whole - half + 127) << 23);
  return (x != x) ? x : (p * low) * high;
}

// log(x) = e ln 2 + log(m) with m in [sqrt(1/2), sqrt(2)).
TESSERA_INLINE F32x16 log(F32x16 x) {
  const auto subnormal = x < 1.17549435e-38f;
  const F32x16 scaled = subnormal ? x * 8388608.0f : x;
  const I32x16 bits = (I32x16)scaled;
  const I32x16 offset = bits - 0x3f3504f3;  // bits of sqrt(1/2)
  const I32x16 exponent = offset >> 23;
  const F32x16 f = (F32x16)(bits - (exponent << 23)) - 1.0f;
  const F32x16 e =
      __builtin_convertvector(exponent, F32x16) - (subnormal ? broadcast(23.0f) : broadcast(0.0f));
  F32x16 p = f * 0.06980701959f - 0.1149454661f;  // (log(1 + f) - f + f^2 / 2) / f^3
  p = p * f + 0.1168907114f;
  p = p * f - 0.1242403772f;
  p = p * f + 0.1424855126f;
  p = p * f - 0.1666785097f;
  p = p * f + 0.200007305f;
  p = p * f - 0.2499999663f;
  p = p * f + 0.3333333112f;
  const F32x16 square = f * f;
  F32x16 tail = p * f * square - e * 2.12194440e-4f;
  tail = tail - 0.5f * square;
  F32x16 result = (f + tail) + e * 0.693359375f;
  constexpr float kInf = std::numeric_limits<float>::infinity();
  result = (x == kInf) | (x != x) ? x : result;
  result = x == 0.0f ? broadcast(-kInf) : result;
  return x < 0.0f ? broadcast(std::numeric_limits<float>::quiet_NaN()) : result;
}

// 1 / (1 + e^-x).
TESSERA_INLINE F32x16 logistic(F32x16 x) {
  // e^-|x| never overflows; for x < 0 the result is e^x / (1 + e^x), without cancellation.
  const F32x16 small = exp(-abs(x));
  return (x < 0.0f ? small : broadcast(1.0f)) / (1.0f + small);
}

TESSERA_INLINE F32x16 tanh(F32x16 x) {
  const F32x16 t = abs(x);
  const F32x16 u = x * x;
  F32x16 p = u * -0.006045165097f + 0.02096132911f;  // (tanh(t) / t - 1) / t^2 below 0.625
  p = p * u - 0.05384326318f;
  p = p * u + 0.1333271885f;
  p = p * u - 0.3333332843f;
  const F32x16 near = (p * u) * x + x;
  const F32x16 far = 1.0f - 2.0f / (exp(t + t) + 1.0f);
  return copy_sign(t < 0.625f ? near : far, x);  // of -0 too
}

TESSERA_INLINE F32x16 erf(F32x16 x) {
  const F32x16 t = abs(x);
  const F32x16 u = x * x;
  F32x16 p = u * 8.316879718e-5f - 0.000813044467f;  // erf(t) / t - 1 below 0.93
  p = p * u + 0.005199989255f;
  p = p * u - 0.02685899742f;
  p = p * u + 0.1128368872f;
  p = p * u - 0.3761263333f;
  p = p * u + 0.1283791666f;
  const F32x16 near = p * x + x;
  const F32x16 s = t > 4.0f ? broadcast(4.0f) : t;    // erf(4) rounds to 1
  F32x16 q = s * -2.940336913e-7f + 4.840379238e-6f;  // -log(erfc(t)) / t - 1 in [0.9, 4]
  q = q * s - 1.578444586e-5f;
  q = q * s - 0.000261620513f;
  q = q * s + 0.00362526573f;
  q = q * s - 0.02394028025f;
  q = q * s + 0.106579908f;
  q = q * s + 0.6348933411f;
  q = q * s + 0.128720089f;
  const F32x16 far = 1.0f - exp(-(q * s + s));
  return (t < 0.93f) | (x != x) ? near : copy_sign(far, x);
}

#define TESSERA_LIBM_LANES(name, expression) \
  TESSERA_INLINE F64x8 name(F64x8 v) {       \
    for (int i = 0; i < 8; ++i) {            \
      const double x = v[i];                 \
      v[i] = (expression);                   \
    }                                        \
    return v;                                \
  }
TESSERA_LIBM_LANES(exp, std::exp(x))
TESSERA_LIBM_LANES(log, std::log(x))
TESSERA_LIBM_LANES(tanh, std::tanh(x))
TESSERA_LIBM_LANES(erf, std::erf(x))
TESSERA_LIBM_LANES(logistic, 1.0 / (1.0 + std::exp(-x)))
#undef TESSERA_LIBM_LANES

}  // namespace tessera::simd
