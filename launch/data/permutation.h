// The order of an epoch: a bijection of [0, size) that is a pure function of (seed, epoch, size).
//
// Any element is found without any other, in O(1) memory and time, so a resume needs no saved
// shuffle buffer and every rank can ask for just its rows. It is a Feistel network on the next even
// number of bits, walked until it lands below `size` (Black and Rogaway 2002, "Ciphers with
// arbitrary finite domains": cycle-walking keeps a bijection a bijection); fewer than 4 walks on
// average.
#pragma once

#include <array>
#include <cstdint>

namespace tessera {

class Permutation {
 public:
  // size >= 1.
  Permutation(uint64_t seed, int64_t epoch, int64_t size);

  int64_t size() const { return size_; }
  int64_t operator()(int64_t index) const;  // 0 <= index < size

 private:
  static constexpr int kRounds = 6;

  uint64_t encrypt(uint64_t value) const;

  int64_t size_;
  int half_bits_;
  uint64_t half_mask_;
  std::array<uint64_t, kRounds> keys_;
};

}  // namespace tessera
