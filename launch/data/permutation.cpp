#include "launch/data/permutation.h"

#include <bit>

#include "core/base/error.h"

namespace tessera {
namespace {

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output
// bit.
uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

}  // namespace

Permutation::Permutation(uint64_t seed, int64_t epoch, int64_t size) : size_(size) {
  TESSERA_CHECK(size >= 1, "permutation of ", size, " elements");
  const int bits = std::bit_width(static_cast<uint64_t>(size - 1));
  half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
  half_mask_ = (uint64_t{1} << half_bits_) - 1;
  uint64_t state = mix(mix(seed) ^ static_cast<uint64_t>(epoch));
  for (uint64_t& key : keys_) key = state = mix(state);
}

uint64_t Permutation::encrypt(uint64_t value) const {
  uint64_t left = value >> half_bits_, right = value & half_mask_;
  for (const uint64_t key : keys_) {
    const uint64_t next = left ^ (mix(right ^ key) & half_mask_);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

int64_t Permutation::operator()(int64_t index) const {
  TESSERA_CHECK(index >= 0 && index < size_, "index ", index, " of a permutation of ", size_);
  uint64_t value = static_cast<uint64_t>(index);
  do value = encrypt(value);
  while (value >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(value);
}

}  // namespace tessera
