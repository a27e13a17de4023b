// 64-byte vectors of f32 or f64, and how f32, bf16 and f64 storage gets in and out of them.
//
// They are GCC/Clang vector extensions: on AVX-512 one register, elsewhere split by the compiler.
// What is written with them is vectorised whatever the optimiser thinks, and sums the same way in
// every build of the same instruction set, which is what makes results reproducible.
//
// Everything here is static and always inlined: it is compiled with the kernels' own instruction
// set, and no copy of it may be shared with code that is compiled for another one.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/types/narrow_float.h"

// Passing such vectors by value changes ABI with the instruction set; all is inlined here.
#pragma GCC diagnostic ignored "-Wpsabi"

#define TESSERA_INLINE static inline __attribute__((always_inline))

namespace tessera::simd {

typedef float F32x16 __attribute__((vector_size(64)));
typedef double F64x8 __attribute__((vector_size(64)));
typedef int32_t I32x16 __attribute__((vector_size(64)));
typedef uint32_t U32x16 __attribute__((vector_size(64)));
typedef int64_t I64x8 __attribute__((vector_size(64)));
typedef uint16_t U16x16 __attribute__((vector_size(32)));

// What a storage type is computed in, and its vector.
template <typename Storage>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <typename Storage>
using Accumulator = typename AccumulatorOf<Storage>::type;

template <typename Acc>
using Vec = std::conditional_t<std::is_same_v<Acc, double>, F64x8, F32x16>;
template <typename Acc>
inline constexpr int kLanes = std::is_same_v<Acc, double> ? 8 : 16;
template <typename V>
using LaneOf = std::conditional_t<std::is_same_v<V, F64x8>, double, float>;

template <typename Acc>
TESSERA_INLINE Vec<Acc> broadcast(Acc value) {
  return value - Vec<Acc>{};
}

template <typename V>
TESSERA_INLINE V load_as(const void* from) {
  V vector;
  __builtin_memcpy(&vector, from, sizeof(V));
  return vector;
}

TESSERA_INLINE F32x16 load(const float* from) { return load_as<F32x16>(from); }
TESSERA_INLINE F64x8 load(const double* from) { return load_as<F64x8>(from); }
TESSERA_INLINE F32x16 load(const bfloat16* from) {
  const U16x16 half = load_as<U16x16>(from);
  return (F32x16)(__builtin_convertvector(half, U32x16) << 16);
}

// To bf16, rounding to nearest even, NaN kept quiet: exactly what bfloat16(float) does.
TESSERA_INLINE U16x16 to_bf16(F32x16 value) {
  const U32x16 word = (U32x16)value;
  const U32x16 rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const auto is_nan = (word & 0x7fffffffu) > 0x7f800000u;
  return __builtin_convertvector(is_nan ? (word >> 16) | 0x40u : rounded, U16x16);
}
// Rounded to bf16 precision, still as f32.
TESSERA_INLINE F32x16 round_to_bf16(F32x16 value) {
  return (F32x16)(__builtin_convertvector(to_bf16(value), U32x16) << 16);
}

TESSERA_INLINE void store(float* to, F32x16 value) {
  __builtin_memcpy(static_cast<void*>(to), &value, 64);
}
TESSERA_INLINE void store(double* to, F64x8 value) {
  __builtin_memcpy(static_cast<void*>(to), &value, 64);
}
TESSERA_INLINE void store(bfloat16* to, F32x16 value) {
  const U16x16 half = to_bf16(value);
  __builtin_memcpy(static_cast<void*>(to), &half, 32);
}

// The first `count` lanes; the others read as `fill` and are not written. The same arithmetic on a
// partial vector as on a full one is what keeps tails bitwise equal to bodies.
template <typename Storage>
TESSERA_INLINE Vec<Accumulator<Storage>> load_first(const Storage* from, int64_t count,
                                                    Accumulator<Storage> fill = 0) {
  using Acc = Accumulator<Storage>;
  alignas(64) Acc lanes[kLanes<Acc>];
  for (int64_t i = 0; i < kLanes<Acc>; ++i) lanes[i] = i < count ? Acc(from[i]) : fill;
  return load(lanes);
}
template <typename Storage>
TESSERA_INLINE void store_first(Storage* to, Vec<Accumulator<Storage>> value, int64_t count) {
  using Acc = Accumulator<Storage>;
  alignas(64) Storage lanes[kLanes<Acc>];
  store(lanes, value);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

template <typename V>
TESSERA_INLINE V max(V a, V b) {
  return a > b ? a : b;
}
template <typename V>
TESSERA_INLINE V min(V a, V b) {
  return a < b ? a : b;
}
// NaN in either operand gives NaN, as StableHLO's maximum and minimum demand.
template <typename V>
TESSERA_INLINE V max_nan(V a, V b) {
  return (a > b) | (a != a) ? a : b;
}
template <typename V>
TESSERA_INLINE V min_nan(V a, V b) {
  return (a < b) | (a != a) ? a : b;
}

TESSERA_INLINE F32x16 abs(F32x16 x) { return (F32x16)((I32x16)x & 0x7fffffff); }
TESSERA_INLINE F32x16 copy_sign(F32x16 magnitude, F32x16 sign) {
  return (F32x16)(((I32x16)magnitude & 0x7fffffff) | ((I32x16)sign & int32_t(0x80000000)));
}

TESSERA_INLINE F32x16 sqrt(F32x16 x) {
#if defined(__AVX512F__)
  return (F32x16)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#else
  for (int i = 0; i < 16; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}
TESSERA_INLINE F64x8 sqrt(F64x8 x) {
#if defined(__AVX512F__)
  return (F64x8)_mm512_maskz_sqrt_pd(0xff, (__m512d)x);
#else
  for (int i = 0; i < 8; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

// Sum and maximum over lanes, always by the same tree.
template <typename V>
TESSERA_INLINE LaneOf<V> sum_lanes(V value) {
  constexpr int kCount = sizeof(V) / sizeof(LaneOf<V>);
  alignas(64) LaneOf<V> lanes[kCount];
  store(lanes, value);
  for (int width = kCount / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}
template <typename V>
TESSERA_INLINE LaneOf<V> max_lanes(V value) {
  constexpr int kCount = sizeof(V) / sizeof(LaneOf<V>);
  alignas(64) LaneOf<V> lanes[kCount];
  store(lanes, value);
  for (int width = kCount / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      lanes[i] = lanes[i] > lanes[i + width] || lanes[i] != lanes[i] ? lanes[i] : lanes[i + width];
    }
  }
  return lanes[0];
}

// Calls body(load, store, start, count) for each vector of [0, n): `load(pointer)` and
// `store(pointer, value)` act on the elements [start, start + count) of the array given.
// One body serves full vectors and the tail.
template <typename Acc, typename Body>
TESSERA_INLINE void for_each_vector(int64_t n, Body&& body) {
  constexpr int64_t kStep = kLanes<Acc>;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    body(
        [i](auto* p) __attribute__((always_inline)) { return load(p + i); },
        [i](auto* p, Vec<Acc> v) __attribute__((always_inline)) { store(p + i, v); });
  }
  if (i < n) {
    const int64_t count = n - i;
    body(
        [ i, count ](auto* p) __attribute__((always_inline)) { return load_first(p + i, count); },
        [ i, count ](auto* p, Vec<Acc> v)
            __attribute__((always_inline)) { store_first(p + i, v, count); });
  }
}

}  // namespace tessera::simd
