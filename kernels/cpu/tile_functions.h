// The loops behind tile_ops.h, per type of tile. Included by tile_ops.cpp alone.
#pragma once

#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

#include "kernels/common/vector_math.h"
#include "kernels/cpu/f8.h"
#include "kernels/cpu/tile_ops.h"

namespace tessera::cpu {
namespace {

// ---- Floats: bodies on vectors ------------------------------------------------------------------

template <typename T, typename Body>
TESSERA_INLINE void map_vectors(int64_t n, void* out, const void* a, const void* b, Body body) {
  T* to = static_cast<T*>(out);
  const T* x = static_cast<const T*>(a);
  const T* y = static_cast<const T*>(b);
  for (int64_t i = 0; i < n; i += simd::kLanes<T>) {
    if constexpr (std::is_invocable_v<Body, simd::Vec<T>>) {
      simd::store(to + i, body(simd::load(x + i)));
    } else {
      simd::store(to + i, body(simd::load(x + i), simd::load(y + i)));
    }
  }
}

template <typename V>
TESSERA_INLINE V lanes_of(V v, double (*f)(double)) {
  using T = simd::LaneOf<V>;
  alignas(64) T lanes[simd::kLanes<T>];
  simd::store(lanes, v);
  for (T& lane : lanes) lane = T(f(lane));
  return simd::load(lanes);
}

// x * Phi(x) and its derivative; the tanh form as x * logistic(2 u), u = sqrt(2/pi) (x + 0.044715
// x^3).
template <typename V>
TESSERA_INLINE V gelu(V x) {
  using T = simd::LaneOf<V>;
  return T(0.5) * x * (T(1) + simd::erf(x * T(std::numbers::sqrt2 / 2)));
}
template <typename V>
TESSERA_INLINE V gelu_slope(V x) {
  using T = simd::LaneOf<V>;
  const V density = simd::exp(T(-0.5) * x * x) * T(0.3989422804014327);  // 1 / sqrt(2 pi)
  return T(0.5) * (T(1) + simd::erf(x * T(std::numbers::sqrt2 / 2))) + x * density;
}
inline constexpr double kGeluFactor = 2 * 0.7978845608028654;  // 2 sqrt(2 / pi)
template <typename V>
TESSERA_INLINE V gelu_tanh(V x) {
  using T = simd::LaneOf<V>;
  return x * simd::logistic(T(kGeluFactor) * (x + T(0.044715) * x * x * x));
}
template <typename V>
TESSERA_INLINE V gelu_tanh_slope(V x) {
  using T = simd::LaneOf<V>;
  const V u = T(kGeluFactor) * (x + T(0.044715) * x * x * x);
  const V du = T(kGeluFactor) * (T(1) + T(3 * 0.044715) * x * x);
  const V s = simd::logistic(u), rest = simd::logistic(-u);  // rest = 1 - s, without cancellation
  return s + x * s * rest * du;
}

#define TESSERA_UNARY(op, expression)                                                            \
  case TileOp::op:                                                                               \
    return [](int64_t n, void* out, const void* a, const void*, const void*) {                   \
      map_vectors<T>(                                                                            \
          n, out, a, nullptr, [](V x) __attribute__((always_inline))->V { return expression; }); \
    };
#define TESSERA_BINARY(op, expression)                                                          \
  case TileOp::op:                                                                              \
    return [](int64_t n, void* out, const void* a, const void* b, const void*) {                \
      map_vectors<T>(                                                                           \
          n, out, a, b, [](V x, V y) __attribute__((always_inline))->V { return expression; }); \
    };

template <typename T>
TileFunction find_float(TileOp op) {
  using V = simd::Vec<T>;
  switch (op) {
    TESSERA_UNARY(negate, -x)
    TESSERA_UNARY(abs, (x < T(0) ? -x : x) + T(0))
    TESSERA_UNARY(sign,
                  (x > T(0) ? simd::broadcast(T(1)) : (x < T(0) ? simd::broadcast(T(-1)) : x)))
    TESSERA_UNARY(exponential, simd::exp(x))
    TESSERA_UNARY(log, simd::log(x))
    TESSERA_UNARY(tanh, simd::tanh(x))
    TESSERA_UNARY(sqrt, simd::sqrt(x))
    TESSERA_UNARY(rsqrt, T(1) / simd::sqrt(x))
    TESSERA_UNARY(logistic, simd::logistic(x))
    TESSERA_UNARY(erf, simd::erf(x))
    TESSERA_UNARY(sine, lanes_of(x, [](double v) { return std::sin(v); }))
    TESSERA_UNARY(cosine, lanes_of(x, [](double v) { return std::cos(v); }))
    TESSERA_UNARY(tan, lanes_of(x, [](double v) { return std::tan(v); }))
    TESSERA_UNARY(cbrt, lanes_of(x, [](double v) { return std::cbrt(v); }))
    TESSERA_UNARY(exponential_minus_one, lanes_of(x, [](double v) { return std::expm1(v); }))
    TESSERA_UNARY(log_plus_one, lanes_of(x, [](double v) { return std::log1p(v); }))
    TESSERA_UNARY(gelu, gelu(x))
    TESSERA_UNARY(gelu_tanh, gelu_tanh(x))
    TESSERA_BINARY(add, x + y)
    TESSERA_BINARY(subtract, x - y)
    TESSERA_BINARY(multiply, x * y)
    TESSERA_BINARY(divide, x / y)
    TESSERA_BINARY(maximum, simd::max_nan(x, y))
    TESSERA_BINARY(minimum, simd::min_nan(x, y))
    TESSERA_BINARY(gelu_grad, gelu_slope(x) * y)
    TESSERA_BINARY(gelu_tanh_grad, gelu_tanh_slope(x) * y)
    default:
      return nullptr;
  }
}

#undef TESSERA_UNARY
#undef TESSERA_BINARY

// ---- Integers and pred: bodies on elements, loops that the compiler vectorises
// --------------------

template <typename R, typename T, typename Body>
TESSERA_INLINE void map_elements(int64_t n, void* out, const void* a, const void* b, Body body) {
  R* to = static_cast<R*>(out);
  const T* x = static_cast<const T*>(a);
  const T* y = static_cast<const T*>(b);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_invocable_v<Body, T>)
      to[i] = R(body(x[i]));
    else
      to[i] = R(body(x[i], y[i]));
  }
}

// Integers wrap, so they are added and multiplied as unsigned; division follows StableHLO.
template <typename T>
using Wrapping = std::make_unsigned_t<std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>>;
template <typename T>
T divide_integers(T x, T y) {
  if (y == 0) return T(-1);
  if constexpr (std::is_signed_v<T>) {
    if (y == -1) return T(-Wrapping<T>(x));
  }
  return x / y;
}
// The sign of the dividend; x where the divisor is 0.
template <typename T>
T remainder_integers(T x, T y) {
  if (y == 0) return x;
  if constexpr (std::is_signed_v<T>) {
    if (y == -1) return T(0);
  }
  return x % y;
}
// By as many places as the type has, or more: nothing is left but copies of the sign.
template <typename T>
T shift_left(T x, T places) {
  constexpr int kBits = std::numeric_limits<Wrapping<T>>::digits;
  return Wrapping<T>(places) < kBits ? T(Wrapping<T>(x) << Wrapping<T>(places)) : T(0);
}
template <typename T>
T shift_right(T x, T places) {
  constexpr int kBits = std::numeric_limits<Wrapping<T>>::digits;
  return Wrapping<T>(places) < kBits ? T(Wrapping<T>(x) >> Wrapping<T>(places)) : T(0);
}
template <typename T>
T shift_with_sign(T x, T places) {
  constexpr int kLast = std::numeric_limits<Wrapping<T>>::digits - 1;
  const int by = Wrapping<T>(places) > kLast ? kLast : int(places);
  return T(std::make_signed_t<T>(x) >> by);
}

#define TESSERA_UNARY(op, R, expression)                                       \
  case TileOp::op:                                                             \
    return [](int64_t n, void* out, const void* a, const void*, const void*) { \
      map_elements<R, T>(n, out, a, nullptr, [](T x) { return expression; });  \
    };
#define TESSERA_BINARY(op, R, expression)                                        \
  case TileOp::op:                                                               \
    return [](int64_t n, void* out, const void* a, const void* b, const void*) { \
      map_elements<R, T>(n, out, a, b, [](T x, T y) { return expression; });     \
    };

template <typename T>
TileFunction find_integer(TileOp op) {
  if constexpr (std::is_same_v<T, bool>) {
    switch (op) {
      TESSERA_UNARY(logical_not, T, !x)
      TESSERA_BINARY(logical_and, T, x && y)
      TESSERA_BINARY(logical_or, T, x || y)
      TESSERA_BINARY(logical_xor, T, x != y)
      TESSERA_BINARY(maximum, T, x || y)
      TESSERA_BINARY(minimum, T, x && y)
      default:
        return nullptr;
    }
  } else {
    using W = Wrapping<T>;
    switch (op) {
      TESSERA_UNARY(negate, T, W(0) - W(x))
      TESSERA_UNARY(abs, T, x < T(0) ? W(0) - W(x) : W(x))
      TESSERA_UNARY(sign, T, x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0))
      TESSERA_UNARY(logical_not, T, ~x)
      TESSERA_UNARY(popcnt, T, std::popcount(W(x)))
      TESSERA_UNARY(count_leading_zeros, T, std::countl_zero(W(x)))
      TESSERA_BINARY(add, T, W(x) + W(y))
      TESSERA_BINARY(subtract, T, W(x) - W(y))
      TESSERA_BINARY(multiply, T, W(x) * W(y))
      TESSERA_BINARY(divide, T, divide_integers<T>(x, y))
      TESSERA_BINARY(remainder, T, remainder_integers<T>(x, y))
      TESSERA_BINARY(maximum, T, x > y ? x : y)
      TESSERA_BINARY(minimum, T, x < y ? x : y)
      TESSERA_BINARY(logical_and, T, x & y)
      TESSERA_BINARY(logical_or, T, x | y)
      TESSERA_BINARY(logical_xor, T, x ^ y)
      TESSERA_BINARY(shift_left, T, shift_left<T>(x, y))
      TESSERA_BINARY(shift_right_arithmetic, T, shift_with_sign<T>(x, y))
      TESSERA_BINARY(shift_right_logical, T, shift_right<T>(x, y))
      default:
        return nullptr;
    }
  }
}

// ---- What every type has ------------------------------------------------------------------------

template <typename T>
void select_tile(int64_t n, void* out, const void* a, const void* b, const void* c) {
  T* to = static_cast<T*>(out);
  const bool* choose = static_cast<const bool*>(a);
  const T *x = static_cast<const T*>(b), *y = static_cast<const T*>(c);
  for (int64_t i = 0; i < n; ++i) to[i] = choose[i] ? x[i] : y[i];
}

// clamp(low, x, high): NaN in x stays.
template <typename T>
void clamp_tile(int64_t n, void* out, const void* a, const void* b, const void* c) {
  T* to = static_cast<T*>(out);
  const T *low = static_cast<const T*>(a), *x = static_cast<const T*>(b);
  const T* high = static_cast<const T*>(c);
  for (int64_t i = 0; i < n; ++i) {
    const T raised = x[i] < low[i] ? low[i] : x[i];
    to[i] = raised > high[i] ? high[i] : raised;
  }
}

// An integer that orders as the total order of floats does.
template <typename T>
auto total_rank(T x) {
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    const auto bits = std::bit_cast<Bits>(x);
    return bits < 0 ? Bits(bits ^ std::numeric_limits<Bits>::max()) : bits;
  } else {
    return x;
  }
}

template <typename T>
TileFunction find_any(TileOp op) {
  switch (op) {
    TESSERA_UNARY(copy, T, x)
    TESSERA_BINARY(eq, bool, x == y)
    TESSERA_BINARY(ne, bool, x != y)
    TESSERA_BINARY(lt, bool, x < y)
    TESSERA_BINARY(le, bool, x <= y)
    TESSERA_BINARY(gt, bool, x > y)
    TESSERA_BINARY(ge, bool, x >= y)
    TESSERA_BINARY(total_eq, bool, total_rank(x) == total_rank(y))
    TESSERA_BINARY(total_ne, bool, total_rank(x) != total_rank(y))
    TESSERA_BINARY(total_lt, bool, total_rank(x) < total_rank(y))
    TESSERA_BINARY(total_le, bool, total_rank(x) <= total_rank(y))
    TESSERA_BINARY(total_gt, bool, total_rank(x) > total_rank(y))
    TESSERA_BINARY(total_ge, bool, total_rank(x) >= total_rank(y))
    case TileOp::select:
      return select_tile<T>;
    case TileOp::clamp:
      return clamp_tile<T>;
    default:
      break;
  }
  if constexpr (std::is_floating_point_v<T>) {
    switch (op) {
      TESSERA_UNARY(is_finite, bool, std::abs(x) <= std::numeric_limits<T>::max())
      TESSERA_UNARY(floor, T, std::floor(x))
      TESSERA_UNARY(ceil, T, std::ceil(x))
      TESSERA_UNARY(round_nearest_even, T, std::nearbyint(x))
      TESSERA_UNARY(round_nearest_afz, T, std::round(x))
      TESSERA_BINARY(power, T, T(std::pow(double(x), double(y))))
      TESSERA_BINARY(remainder, T, T(std::fmod(double(x), double(y))))
      TESSERA_BINARY(atan2, T, T(std::atan2(double(x), double(y))))
      default:
        break;
    }
  }
  return nullptr;
}

#undef TESSERA_UNARY
#undef TESSERA_BINARY

// As HostTensor::cast: floats to integers truncate and saturate (NaN gives 0), to pred is x != 0.
template <typename R, typename T>
R convert_element(T x) {
  if constexpr (std::is_same_v<R, bool>) {
    return x != T(0);
  } else if constexpr (std::is_floating_point_v<T> && std::is_integral_v<R>) {
    if (x != x) return R(0);
    constexpr double kLow = double(std::numeric_limits<R>::min());
    // The first double above the range, exact.
    constexpr double kPast = 2.0 * double(uint64_t{1} << (std::numeric_limits<R>::digits - 1));
    if (double(x) <= kLow) return std::numeric_limits<R>::min();
    if (double(x) >= kPast) return std::numeric_limits<R>::max();
    return static_cast<R>(x);
  } else {
    return static_cast<R>(x);
  }
}

// To nearest. Halfway goes up, for the last bit that is kept is the leading 1, which is odd; subnormals lack it, and
// half of the least normal number goes to 0.
inline float nearest_power_of_two(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), size = bits & 0x7fffffffu;
  const uint32_t rounded = (size + 0x3fffffu + (size >= 0x800000u)) & 0x7f800000u;
  return size >= 0x7f800000u ? x : std::bit_cast<float>(rounded | (bits & 0x80000000u));
}

template <int kExponent>
void encode_f8_tile(int64_t n, void* out, const void* a, const void*, const void*) {
  uint8_t* to = static_cast<uint8_t*>(out);
  const float* x = static_cast<const float*>(a);
  for (int64_t i = 0; i < n; ++i) to[i] = encode_f8<kExponent>(x[i]);
}

template <int kExponent>
void decode_f8_tile(int64_t n, void* out, const void* a, const void*, const void*) {
  uint32_t* to = static_cast<uint32_t*>(out);
  const uint8_t* x = static_cast<const uint8_t*>(a);
  for (int64_t i = 0; i < n; ++i) to[i] = decode_f8<kExponent>(x[i]);
}

inline TileFunction find_f8(TileOp op, DType operand, DType result) {
  const auto is_wide = [](DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; };
  if (op != TileOp::convert) return nullptr;
  if (is_wide(operand))
    return dispatch_f8(result, []<int kExponent>() -> TileFunction { return encode_f8_tile<kExponent>; });
  if (is_wide(result))
    return dispatch_f8(operand, []<int kExponent>() -> TileFunction { return decode_f8_tile<kExponent>; });
  return nullptr;
}

template <typename T, typename R>
void convert_tile(int64_t n, void* out, const void* a, const void*, const void*) {
  R* to = static_cast<R*>(out);
  const T* x = static_cast<const T*>(a);
  for (int64_t i = 0; i < n; ++i) to[i] = convert_element<R, T>(x[i]);
}

}  // namespace
}  // namespace tessera::cpu
