// Where sign, exponent and mantissa stand in the element types, to read and print NaNs bit by bit.
#pragma once

#include <bit>
#include <cstdint>

#include "core/types/narrow_float.h"

namespace tessera::hlo {

template <typename T, typename B, int kMantissa, B kDefaultPayload>
struct FloatBitsOf {
  using Bits = B;
  static constexpr int kBits = 8 * sizeof(B);
  static constexpr Bits kSign = static_cast<Bits>(Bits{1} << (kBits - 1));
  static constexpr Bits kPayloadMask = static_cast<Bits>((Bits{1} << kMantissa) - 1);
  static constexpr Bits kExponent = static_cast<Bits>(static_cast<Bits>(~kSign) & ~kPayloadMask);
  static constexpr Bits kDefault = kDefaultPayload;  // of a NaN written "nan"
  static Bits bits(T value) { return std::bit_cast<Bits>(value); }
  static T value(Bits bits) { return std::bit_cast<T>(bits); }
};

template <typename T>
struct FloatBits;
template <>
struct FloatBits<double> : FloatBitsOf<double, uint64_t, 52, uint64_t{1} << 51> {};
template <>
struct FloatBits<float> : FloatBitsOf<float, uint32_t, 23, 1u << 22> {};
template <>
struct FloatBits<bfloat16> : FloatBitsOf<bfloat16, uint16_t, 7, 1u << 6> {};
template <>
struct FloatBits<float16> : FloatBitsOf<float16, uint16_t, 10, 1u << 9> {};
template <>
struct FloatBits<float8_e5m2> : FloatBitsOf<float8_e5m2, uint8_t, 2, 1u << 1> {};
// Finite but for one NaN of all ones.
template <>
struct FloatBits<float8_e4m3fn> : FloatBitsOf<float8_e4m3fn, uint8_t, 3, 7> {};

}  // namespace tessera::hlo
