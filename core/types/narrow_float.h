// The narrow float formats as storage types: bf16, f16 and the two f8 formats.
// Arithmetic happens in float or double; these only convert, rounding to nearest even.
#pragma once

#include <bit>
#include <cstdint>

namespace tessera {

namespace detail {

// Encodes `value` in a format of 1 sign, `E` exponent and `M` mantissa bits.
// `kFiniteOnly` is the f8e4m3fn scheme: no infinities, all-ones is NaN, overflow gives NaN.
template <int E, int M, bool kFiniteOnly>
uint32_t encode_float(float value) {
  constexpr int kBias = (1 << (E - 1)) - 1;
  constexpr uint32_t kInf = ((1u << E) - 1) << M;
  constexpr uint32_t kNaN = kFiniteOnly ? (kInf | ((1u << M) - 1)) : (kInf | (1u << (M - 1)));
  constexpr uint32_t kMax = kFiniteOnly ? kNaN - 1 : kInf - 1;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 31) << (E + M);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | kNaN;
  if (magnitude == 0x7f800000u) return sign | (kFiniteOnly ? kNaN : kInf);
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + kBias;
  uint64_t mantissa = (magnitude & 0x7fffffu) | (magnitude >> 23 ? 0x800000u : 0u);
  // A subnormal result shifts further right; the kept bits are [exponent | mantissa] in one field.
  int drop = 23 - M;
  uint32_t field;
  if (exponent >= 1) {
    const uint64_t full = (static_cast<uint64_t>(exponent) << 23) | (mantissa & 0x7fffffu);
    const uint64_t half = uint64_t{1} << (drop - 1);
    field = static_cast<uint32_t>((full + half - 1 + ((full >> drop) & 1)) >> drop);
  } else {
    drop += 1 - exponent;
    if (drop > 40) return sign;
    const uint64_t half = uint64_t{1} << (drop - 1);
    field = static_cast<uint32_t>((mantissa + half - 1 + ((mantissa >> drop) & 1)) >> drop);
  }
  if (field > kMax) field = kFiniteOnly ? kNaN : kInf;
  return sign | field;
}

template <int E, int M, bool kFiniteOnly>
float decode_float(uint32_t bits) {
  constexpr int kBias = (1 << (E - 1)) - 1;
  const bool negative = (bits >> (E + M)) & 1;
  const uint32_t exponent = (bits >> M) & ((1u << E) - 1);
  const uint32_t mantissa = bits & ((1u << M) - 1);
  float magnitude;
  if (!kFiniteOnly && exponent == (1u << E) - 1) {
    magnitude = std::bit_cast<float>(mantissa ? 0x7fc00000u : 0x7f800000u);
  } else if (kFiniteOnly && exponent == (1u << E) - 1 && mantissa == (1u << M) - 1) {
    magnitude = std::bit_cast<float>(0x7fc00000u);
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa);
    // 2^(1 - bias - M), built exactly.
    magnitude *= std::bit_cast<float>(static_cast<uint32_t>(127 + 1 - kBias - M > 0 ? 127 + 1 - kBias - M : 0) << 23);
  } else {
    magnitude = std::bit_cast<float>(((exponent - kBias + 127) << 23) | (mantissa << (23 - M)));
  }
  return negative ? -magnitude : magnitude;
}

}  // namespace detail

struct bfloat16 {
  uint16_t bits = 0;
  bfloat16() = default;
  bfloat16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) bits = static_cast<uint16_t>((word >> 16) | 0x40u);
    else bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

struct float16 {
  uint16_t bits = 0;
  float16() = default;
  float16(float value) : bits(static_cast<uint16_t>(detail::encode_float<5, 10, false>(value))) {}
  operator float() const { return detail::decode_float<5, 10, false>(bits); }
};

struct float8_e4m3fn {
  uint8_t bits = 0;
  float8_e4m3fn() = default;
  float8_e4m3fn(float value) : bits(static_cast<uint8_t>(detail::encode_float<4, 3, true>(value))) {}
  operator float() const { return detail::decode_float<4, 3, true>(bits); }
};

struct float8_e5m2 {
  uint8_t bits = 0;
  float8_e5m2() = default;
  float8_e5m2(float value) : bits(static_cast<uint8_t>(detail::encode_float<5, 2, false>(value))) {}
  operator float() const { return detail::decode_float<5, 2, false>(bits); }
};

}  // namespace tessera
