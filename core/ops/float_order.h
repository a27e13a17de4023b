// Floats as integers of the same order, so that every NaN and zero has its place.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace tessera::ops {

// -NaN < -inf < ... < -0 < +0 < ... < inf < NaN.
inline int64_t total_rank(double value) {
  const auto bits = std::bit_cast<int64_t>(value);
  return bits < 0 ? std::numeric_limits<int64_t>::min() - bits - 1 : bits;
}

}  // namespace tessera::ops
