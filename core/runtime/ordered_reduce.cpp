#include "core/runtime/ordered_reduce.h"

#include <algorithm>
#include <bit>
#include <complex>
#include <cstring>
#include <type_traits>

#include "core/base/error.h"
#include "core/types/dispatch.h"

// Plain loops over blocks that stay in the first-level cache: each source is read once and each
// destination written once, so a reduction runs at the speed of memory. The hot types are compiled
// for several instruction sets and chosen at load time. The results do not depend on the choice:
// every element sees the same additions in the same order, and nothing here is contracted.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
// Not under sanitizers: the choice at load time runs before their start-up.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define TESSERA_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef TESSERA_CLONES
#define TESSERA_CLONES
#endif
#define TESSERA_INLINE __attribute__((always_inline)) inline

namespace tessera {
namespace {

constexpr int64_t kBlock = 2048;  // elements; the accumulator takes 8-16 KiB

template <typename T>
struct Accumulator {
  using type = T;
};
template <>
struct Accumulator<bfloat16> {
  using type = float;
};
template <>
struct Accumulator<float16> {
  using type = float;
};
template <>
struct Accumulator<float8_e4m3fn> {
  using type = float;
};
template <>
struct Accumulator<float8_e5m2> {
  using type = float;
};
template <>
struct Accumulator<bool> {
  using type = uint8_t;
};

template <ReduceKind kKind, typename A>
TESSERA_INLINE A combine(A a, A b) {
  constexpr bool kFloat = std::is_floating_point_v<A>;
  if constexpr (kKind == ReduceKind::sum) {
    if constexpr (std::is_integral_v<A>) {  // wraps, as the types say, without signed overflow
      using U = std::make_unsigned_t<A>;
      return static_cast<A>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
    } else {
      return a + b;
    }
  } else if constexpr (kKind == ReduceKind::product) {
    if constexpr (std::is_integral_v<A>) {
      // In 64 bits: two uint16_t would be promoted to int, and overflow.
      return static_cast<A>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    } else {
      return a * b;
    }
  } else if constexpr (kKind == ReduceKind::max) {
    if constexpr (kFloat)
      return (a > b) | (a != a) ? a : b;
    else
      return a > b ? a : b;
  } else if constexpr (kKind == ReduceKind::min) {
    if constexpr (kFloat)
      return (a < b) | (a != a) ? a : b;
    else
      return a < b ? a : b;
  } else if constexpr (kKind == ReduceKind::logical_and) {
    return static_cast<A>(a & b);
  } else {
    return static_cast<A>(a | b);
  }
}

// bfloat16 by bits, without branches, so that the loop is vectorised. Same values as the class.
TESSERA_INLINE float widen(bfloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
TESSERA_INLINE uint16_t round_bf16(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const uint32_t quiet = (word >> 16) | 0x40u;
  return static_cast<uint16_t>((word & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

template <typename T, typename A>
TESSERA_INLINE A load(const T& value) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return widen(value);
  else
    return static_cast<A>(value);
}

template <typename T, typename A>
TESSERA_INLINE void store_block(T* __restrict to, const A* __restrict from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, bfloat16>)
      to[i].bits = round_bf16(from[i]);
    else if constexpr (std::is_same_v<T, bool>)
      to[i] = from[i] != 0;
    else
      to[i] = static_cast<T>(from[i]);
  }
}

using Sources = std::span<const std::byte* const>;
using Destinations = std::span<std::byte* const>;

template <typename T, ReduceKind kKind>
TESSERA_INLINE void reduce_blocks(Sources sources, Destinations destinations, int64_t count) {
  using A = typename Accumulator<T>::type;
  alignas(64) A sum[kBlock];
  alignas(64) T rounded[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* first = reinterpret_cast<const T*>(sources[0]) + begin;
    size_t next = 1;
    if (sources.size() > 1) {
      const T* second = reinterpret_cast<const T*>(sources[1]) + begin;
      for (int64_t i = 0; i < n; ++i)
        sum[i] = combine<kKind, A>(load<T, A>(first[i]), load<T, A>(second[i]));
      next = 2;
    } else {
      for (int64_t i = 0; i < n; ++i) sum[i] = load<T, A>(first[i]);
    }
    for (; next < sources.size(); ++next) {
      const T* source = reinterpret_cast<const T*>(sources[next]) + begin;
      for (int64_t i = 0; i < n; ++i) sum[i] = combine<kKind, A>(sum[i], load<T, A>(source[i]));
    }
    const void* result = sum;
    if constexpr (!std::is_same_v<T, A>) {
      store_block<T, A>(rounded, sum, n);
      result = rounded;
    }
    for (std::byte* destination : destinations)
      std::memcpy(destination + begin * static_cast<int64_t>(sizeof(T)), result,
                  static_cast<size_t>(n) * sizeof(T));
  }
}

// bfloat16 in pairs: a 32-bit word holds two, and each half becomes a float by a shift or a mask,
// so the loops need neither widening nor packing of 16-bit lanes, which halves the speed.
typedef uint32_t PairWord __attribute__((aligned(2), may_alias));

TESSERA_INLINE float low_half(uint32_t word) { return std::bit_cast<float>(word << 16); }
TESSERA_INLINE float high_half(uint32_t word) { return std::bit_cast<float>(word & 0xffff0000u); }

// The float rounded to bfloat16, in the upper half of the word; the lower half is not cleared.
TESSERA_INLINE uint32_t round_upper(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u);
  return static_cast<int32_t>(word & 0x7fffffffu) > 0x7f800000 ? word | 0x400000u : rounded;
}
TESSERA_INLINE uint32_t round_pair(float low, float high) {
  return (round_upper(low) >> 16) | (round_upper(high) & 0xffff0000u);
}

template <ReduceKind kKind>
TESSERA_INLINE void reduce_pairs(Sources sources, Destinations destinations, int64_t count) {
  constexpr int64_t kPairs = kBlock / 2;
  alignas(64) float low[kPairs], high[kPairs];
  alignas(64) uint32_t rounded[kPairs];
  const int64_t pairs = count / 2;
  for (int64_t begin = 0; begin < pairs; begin += kPairs) {
    const int64_t n = std::min(kPairs, pairs - begin);
    const auto words = [&](size_t i) {
      return reinterpret_cast<const PairWord*>(sources[i]) + begin;
    };
    const PairWord* first = words(0);
    if (sources.size() == 2) {
      const PairWord* second = words(1);
      for (int64_t i = 0; i < n; ++i)
        rounded[i] = round_pair(combine<kKind, float>(low_half(first[i]), low_half(second[i])),
                                combine<kKind, float>(high_half(first[i]), high_half(second[i])));
    } else {
      for (int64_t i = 0; i < n; ++i) low[i] = low_half(first[i]), high[i] = high_half(first[i]);
      for (size_t source = 1; source < sources.size(); ++source) {
        const PairWord* next = words(source);
        for (int64_t i = 0; i < n; ++i) {
          low[i] = combine<kKind, float>(low[i], low_half(next[i]));
          high[i] = combine<kKind, float>(high[i], high_half(next[i]));
        }
      }
      for (int64_t i = 0; i < n; ++i) rounded[i] = round_pair(low[i], high[i]);
    }
    for (std::byte* destination : destinations)
      std::memcpy(destination + begin * 4, rounded, static_cast<size_t>(n) * 4);
  }
}

TESSERA_INLINE void reduce_bf16_pairs(Sources in, Destinations out, int64_t count,
                                      ReduceKind kind) {
  switch (kind) {
    case ReduceKind::sum:
      return reduce_pairs<ReduceKind::sum>(in, out, count);
    case ReduceKind::product:
      return reduce_pairs<ReduceKind::product>(in, out, count);
    case ReduceKind::max:
      return reduce_pairs<ReduceKind::max>(in, out, count);
    case ReduceKind::min:
      return reduce_pairs<ReduceKind::min>(in, out, count);
    default:
      return;
  }
}

template <typename T>
TESSERA_INLINE void reduce_typed(Sources in, Destinations out, int64_t count, ReduceKind kind) {
  constexpr bool kComplex = std::is_same_v<T, std::complex<float>>;
  constexpr bool kBits = std::is_integral_v<T>;  // bool included
  if constexpr (std::is_same_v<T, bool>) {
    if (kind == ReduceKind::sum || kind == ReduceKind::max) kind = ReduceKind::logical_or;
    if (kind == ReduceKind::product || kind == ReduceKind::min) kind = ReduceKind::logical_and;
  }
  switch (kind) {
    case ReduceKind::sum:
      return reduce_blocks<T, ReduceKind::sum>(in, out, count);
    case ReduceKind::product:
      return reduce_blocks<T, ReduceKind::product>(in, out, count);
    case ReduceKind::max:
      if constexpr (!kComplex) return reduce_blocks<T, ReduceKind::max>(in, out, count);
      break;
    case ReduceKind::min:
      if constexpr (!kComplex) return reduce_blocks<T, ReduceKind::min>(in, out, count);
      break;
    case ReduceKind::logical_and:
      if constexpr (kBits) return reduce_blocks<T, ReduceKind::logical_and>(in, out, count);
      break;
    case ReduceKind::logical_or:
      if constexpr (kBits) return reduce_blocks<T, ReduceKind::logical_or>(in, out, count);
      break;
  }
}

TESSERA_CLONES void reduce_f32(Sources in, Destinations out, int64_t count, ReduceKind kind) {
  reduce_typed<float>(in, out, count, kind);
}
TESSERA_CLONES void reduce_bf16(Sources in, Destinations out, int64_t count, ReduceKind kind) {
  reduce_bf16_pairs(in, out, count, kind);
}
// The last element of an odd number. Fills no vectors, so it needs no clones.
void reduce_bf16_last(Sources in, Destinations out, int64_t count, ReduceKind kind) {
  const auto value_of = [&](size_t source) {
    bfloat16 value;
    std::memcpy(&value, in[source] + (count - 1) * 2, 2);
    return static_cast<float>(value);
  };
  float sum = value_of(0);
  for (size_t i = 1; i < in.size(); ++i) {
    switch (kind) {
      case ReduceKind::sum:
        sum = combine<ReduceKind::sum, float>(sum, value_of(i));
        break;
      case ReduceKind::product:
        sum = combine<ReduceKind::product, float>(sum, value_of(i));
        break;
      case ReduceKind::max:
        sum = combine<ReduceKind::max, float>(sum, value_of(i));
        break;
      default:
        sum = combine<ReduceKind::min, float>(sum, value_of(i));
        break;
    }
  }
  const bfloat16 result(sum);
  for (std::byte* destination : out) std::memcpy(destination + (count - 1) * 2, &result, 2);
}
TESSERA_CLONES void reduce_f64(Sources in, Destinations out, int64_t count, ReduceKind kind) {
  reduce_typed<double>(in, out, count, kind);
}

TESSERA_CLONES void widen_bf16(float* __restrict to, const bfloat16* __restrict from,
                               int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}
TESSERA_CLONES void narrow_bf16(bfloat16* __restrict to, const float* __restrict from,
                                int64_t count) {
  store_block<bfloat16, float>(to, from, count);
}

}  // namespace

void check_reducible(DType dtype, ReduceKind kind) {
  const bool logical = kind == ReduceKind::logical_and || kind == ReduceKind::logical_or;
  const bool ordered = kind == ReduceKind::max || kind == ReduceKind::min;
  TESSERA_CHECK(
      !(logical && (is_float(dtype) || dtype == DType::c64)) && !(ordered && dtype == DType::c64),
      "the reduction ", kind, " has no meaning on ", dtype);
}

void ordered_reduce(Sources sources, Destinations destinations, int64_t count, DType dtype,
                    ReduceKind kind) {
  check_reducible(dtype, kind);
  TESSERA_CHECK(!sources.empty());
  if (count == 0) return;
  if (dtype == DType::f32) return reduce_f32(sources, destinations, count, kind);
  if (dtype == DType::bf16) {
    if (count % 2 != 0) reduce_bf16_last(sources, destinations, count, kind);
    return reduce_bf16(sources, destinations, count, kind);
  }
  if (dtype == DType::f64) return reduce_f64(sources, destinations, count, kind);
  dispatch_dtype(dtype, [&]<typename T>() {
    if constexpr (!std::is_same_v<T, float> && !std::is_same_v<T, bfloat16> &&
                  !std::is_same_v<T, double>)
      reduce_typed<T>(sources, destinations, count, kind);
  });
}

DType accumulator_of(DType dtype) {
  return is_float(dtype) && size_of(dtype) < 4 ? DType::f32 : dtype;
}

void widen_to_f32(float* to, const std::byte* from, int64_t count, DType dtype) {
  if (dtype == DType::bf16) return widen_bf16(to, reinterpret_cast<const bfloat16*>(from), count);
  TESSERA_CHECK(is_float(dtype) && size_of(dtype) <= 4, dtype);
  dispatch_dtype(dtype, [&]<typename T>() {
    if constexpr (std::is_convertible_v<T, float>)
      for (int64_t i = 0; i < count; ++i)
        to[i] = static_cast<float>(reinterpret_cast<const T*>(from)[i]);
  });
}

void round_from_f32(std::byte* to, const float* from, int64_t count, DType dtype) {
  if (dtype == DType::bf16) return narrow_bf16(reinterpret_cast<bfloat16*>(to), from, count);
  TESSERA_CHECK(is_float(dtype) && size_of(dtype) <= 4, dtype);
  dispatch_dtype(dtype, [&]<typename T>() {
    if constexpr (std::is_constructible_v<T, float>)
      for (int64_t i = 0; i < count; ++i) reinterpret_cast<T*>(to)[i] = static_cast<T>(from[i]);
  });
}

}  // namespace tessera
