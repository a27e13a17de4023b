// Division by a number that the host knows: a multiplication and a shift (Granlund & Montgomery 1994).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// For dividends below 2^31; divisor in [1, 2^31).
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(int64_t divisor) : divisor_(static_cast<uint32_t>(divisor)) {
    while ((uint64_t{1} << shift_) < divisor_) ++shift_;
    factor_ = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift_) - divisor_)) / divisor_ + 1);
  }

  __device__ __forceinline__ uint32_t divide(uint32_t x) const {
    return (static_cast<uint32_t>((static_cast<uint64_t>(x) * factor_) >> 32) + x) >> shift_;
  }
  __device__ __forceinline__ uint32_t divisor() const { return divisor_; }

 private:
  uint32_t divisor_ = 1, factor_ = 1, shift_ = 0;
};

// Any dividends; slow.
class WideDivisor {
 public:
  WideDivisor() = default;
  explicit WideDivisor(int64_t divisor) : divisor_(divisor) {}

  __device__ __forceinline__ int64_t divide(int64_t x) const { return x / divisor_; }
  __device__ __forceinline__ int64_t divisor() const { return divisor_; }

 private:
  int64_t divisor_ = 1;
};

}  // namespace tessera::cuda
