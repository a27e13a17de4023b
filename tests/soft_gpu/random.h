// Choices of the software GPU, all from one seed.
#pragma once

#include <cstdint>

namespace soft_gpu {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du) {
    if (state_ == 0) state_ = 1;
    next();
    next();
  }
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }
  // Less than `count`, which is at least 1 and less than 2^32.
  uint64_t below(uint64_t count) { return (next() >> 32) * count >> 32; }

 private:
  uint64_t state_;
};

// TESSERA_SOFT_GPU_SEED, else a fixed one. Read anew at each call: tests change it.
uint64_t seed();

}  // namespace soft_gpu
