// The two f8 formats from and to f32, as loops without branches that the compiler vectorises: the same codes as
// core/types/narrow_float.h, at some 10 integer operations an element instead of a function with branches each.
#pragma once

#include <bit>
#include <cstdint>

#include "core/types/dtype.h"

namespace tessera::cpu {

// Of 1 sign, kExponent and 7 - kExponent mantissa bits; with 4 exponent bits there is no infinity.
template <int kExponent>
struct F8Format {
  static constexpr int kMantissa = 7 - kExponent, kBias = (1 << (kExponent - 1)) - 1, kDrop = 23 - kMantissa;
  static constexpr bool kFiniteOnly = kExponent == 4;
  static constexpr uint32_t kNaN = kFiniteOnly ? 0x7f : 0x7e;
  static constexpr uint32_t kMax = kFiniteOnly ? 0x7e : 0x7b;
  static constexpr uint32_t kOverflow = kFiniteOnly ? kNaN : 0x7c;
  static constexpr uint32_t kLeastNormal = static_cast<uint32_t>(128 - kBias) << 23;  // bits of 2^(1 - bias)
};

// To nearest, ties to even; what is too large becomes NaN (e4m3) or infinity (e5m2), NaN stays.
template <int kExponent>
inline uint8_t encode_f8(float value) {
  using F = F8Format<kExponent>;
  const uint32_t bits = std::bit_cast<uint32_t>(value), size = bits & 0x7fffffffu;
  const uint32_t normal = ((size + (1u << (F::kDrop - 1)) - 1 + ((size >> F::kDrop) & 1)) >> F::kDrop) -
                          (static_cast<uint32_t>(127 - F::kBias) << F::kMantissa);
  // Added to a number whose last bit weighs as much as the least subnormal, the sum is rounded by the adder.
  constexpr uint32_t kAnchor = static_cast<uint32_t>(127 + 23 + 1 - F::kBias - F::kMantissa) << 23;
  const float sum = std::bit_cast<float>(size) + std::bit_cast<float>(kAnchor);
  const uint32_t subnormal = std::bit_cast<uint32_t>(sum) - kAnchor;
  uint32_t code = size < F::kLeastNormal ? subnormal : normal;
  code = (size < F::kLeastNormal || code <= F::kMax) ? code : F::kOverflow;
  code = size > 0x7f800000u ? F::kNaN : code;
  return static_cast<uint8_t>(code | (bits >> 24 & 0x80));
}

// The bits of the f32 of the same value: exact, and the upper half alone is its bf16.
template <int kExponent>
inline uint32_t decode_f8(uint8_t code) {
  using F = F8Format<kExponent>;
  const uint32_t size = code & 0x7fu;
  // The exponent field lands in place, lacking the difference of the biases: a multiplication, exact also where the
  // code is subnormal.
  const float scale = std::bit_cast<float>(static_cast<uint32_t>(127 + 127 - F::kBias) << 23);
  const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(size << F::kDrop) * scale);
  const bool is_special = F::kFiniteOnly ? size == 0x7f : size >= 0x7c;
  const uint32_t special = !F::kFiniteOnly && size == 0x7c ? 0x7f800000u : 0x7fc00000u;
  return (is_special ? special : finite) | static_cast<uint32_t>(code & 0x80u) << 24;
}

// Calls body<4>() or body<5>().
template <typename Body>
decltype(auto) dispatch_f8(DType dtype, Body&& body) {
  if (dtype == DType::f8e4m3fn) return body.template operator()<4>();
  return body.template operator()<5>();
}

}  // namespace tessera::cpu
