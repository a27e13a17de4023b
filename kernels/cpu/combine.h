// Two elements combined, the kind known at compile time.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/types/reduce_kind.h"

namespace tessera::cpu {

// a combined with b by sum, product, max or min; NaN where either is, integers wrap.
template <ReduceKind kKind, typename A>
A combined(A a, A b) {
  if constexpr (std::is_integral_v<A>) {
    using Wrapping = std::make_unsigned_t<A>;
    if constexpr (kKind == ReduceKind::sum) return A(Wrapping(a) + Wrapping(b));
    if constexpr (kKind == ReduceKind::product) return A(Wrapping(a) * Wrapping(b));
  }
  if constexpr (kKind == ReduceKind::sum) return a + b;
  if constexpr (kKind == ReduceKind::product) return a * b;
  if (a != a || b != b) return a + b;  // NaN stays
  return (kKind == ReduceKind::max) == (a > b) ? a : b;
}

// The neutral element of a kind of numbers.
template <typename A>
A identity(ReduceKind kind) {
  using Limits = std::numeric_limits<A>;
  switch (kind) {
    case ReduceKind::max:
      return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    case ReduceKind::min:
      return Limits::has_infinity ? Limits::infinity() : Limits::max();
    case ReduceKind::product:
      return 1;
    default:
      return 0;
  }
}

// body<kind>() with the kinds that numbers have.
template <typename Body>
void dispatch_kind(ReduceKind kind, Body body) {
  switch (kind) {
    case ReduceKind::product:
      return body.template operator()<ReduceKind::product>();
    case ReduceKind::max:
      return body.template operator()<ReduceKind::max>();
    case ReduceKind::min:
      return body.template operator()<ReduceKind::min>();
    default:
      return body.template operator()<ReduceKind::sum>();
  }
}

}  // namespace tessera::cpu
