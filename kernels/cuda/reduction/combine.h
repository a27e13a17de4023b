// The combiners of reductions and scatters on the device, by kind and type.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/types/reduce_kind.h"
#include "kernels/cuda/device/number.h"

namespace tessera::cuda {

// What values of a type are combined in: floats in f32, pred (a byte) in a word.
template <typename T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<bf16> {
  using type = float;
};
template <>
struct AccumulatorOf<uint8_t> {
  using type = uint32_t;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

template <typename T>
__device__ __forceinline__ Accumulator<T> accumulator_of(T x) {
  if constexpr (std::is_same_v<T, bf16>) return to_float(x);
  else return static_cast<Accumulator<T>>(x);
}
template <typename T, typename A>
__device__ __forceinline__ T rounded_to(A x) {
  if constexpr (std::is_same_v<T, bf16>) return from_float<bf16>(x);
  else return static_cast<T>(x);
}

// a combined with b: NaN where either is, integers wrap. logical_and and logical_or take 0 and 1.
template <ReduceKind kKind, typename A>
struct Combine {
  static __device__ __forceinline__ A identity() {
    using Limits = std::numeric_limits<A>;
    if constexpr (kKind == ReduceKind::sum || kKind == ReduceKind::logical_or) return A(0);
    if constexpr (kKind == ReduceKind::product || kKind == ReduceKind::logical_and) return A(1);
    if constexpr (std::is_floating_point_v<A>) return kKind == ReduceKind::max ? A(-INFINITY) : A(INFINITY);
    return kKind == ReduceKind::max ? Limits::lowest() : Limits::max();
  }
  __device__ __forceinline__ A operator()(A a, A b) const {
    if constexpr (kKind == ReduceKind::logical_and) return a & b;
    else if constexpr (kKind == ReduceKind::logical_or) return a | b;
    else if constexpr (kKind == ReduceKind::sum) return A(Wrapping(a) + Wrapping(b));
    else if constexpr (kKind == ReduceKind::product) return A(Wrapping(a) * Wrapping(b));
    else {
      if constexpr (std::is_floating_point_v<A>) {
        if (a != a || b != b) return a + b;
      }
      return (kKind == ReduceKind::max) == (a > b) ? a : b;
    }
  }

 private:
  using Wrapping = typename std::conditional_t<std::is_integral_v<A>, std::make_unsigned<A>, std::type_identity<A>>::type;
};

}  // namespace tessera::cuda
