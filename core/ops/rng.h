// Random bits from an explicit state, as StableHLO's rng_bit_generator: the bits of XLA on the CPU,
// so that an imported program draws the numbers it drew there.
//
// Element i of the tensor is a function of the state, the whole shape and i alone, so the bits are
// the same on every mesh.
//
// philox, and default: state u64[3] = key, counter (low, high), or u64[2] = key, counter (low), the
// counter's high half being the key again. Block j is Philox4x32-10 of counter + j; its four words
// are elements 4 j .. 4 j + 3, in 64 bits two elements, low word first. No key is scrambled.
//
// three_fry: state u64[2] = key, counter. In 64 bits element j is ThreeFry2x32 (20 rounds) of
// counter + j, low word first. Else the two words of a block are neighbours along one dim, the
// first even one, or the first of the largest where all are odd; blocks are numbered row-major in
// the shape with that dim halved (rounded up).
//
// 8- and 16-bit elements are the low bits of a word. Bits and states were compared with XLA's (JAX
// 0.10.2, CPU; tests/ops/rng_test.cpp).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/ir/builder.h"

namespace tessera::ops {

// rng_bit_generator{rng_algorithm, shape, dtype}(state) -> next state, bits; the algorithm is
// philox, three_fry or default.
extern const OpDef kRngBitGenerator;
struct RandomBits {
  Value state, bits;
};
RandomBits rng_bit_generator(Builder& b, Value state, TensorType type,
                             const std::string& algorithm = "philox");

// What a call draws, element by element. Philox and ThreeFry give several elements at once: the
// block computed last is remembered.
class BitSource {
 public:
  // Of the op, before or after localize; `state` has the words of its operand.
  BitSource(const Attributes& attributes, std::span<const uint64_t> state);

  // The strides of the whole tensor, and its index of the own part's first element.
  const std::vector<int64_t>& strides() const { return strides_; }
  int64_t first_of(std::span<const int64_t> starts) const;
  // Of the element with this index in the whole tensor; any bits beyond it (padding).
  uint64_t at(int64_t index);
  // What the state is after the call.
  std::vector<uint64_t> next_state() const;

  // Which word of which block an element is, for devices that draw by themselves.
  struct Words {
    bool is_philox = true, is_wide = false;  // else three_fry; wide: elements of 64 bits
    int64_t count = 0;                       // elements of the whole tensor
    int64_t along = 1, inner = 1;  // of three_fry: the dim of neighbouring words, what lies within it
    uint64_t blocks = 0;           // what the counter goes on by
  };
  Words words() const { return {is_philox_, is_wide_, count_, size_, inner_, blocks()}; }

 private:
  uint64_t blocks() const;
  void compute(uint64_t block);

  std::vector<uint64_t> state_;
  uint64_t counter_[2] = {0, 0};
  Shape whole_;
  std::vector<int64_t> strides_;
  bool is_philox_, is_wide_;
  int64_t count_ = 0;
  // Of three_fry: the whole shape around the dim along which words are neighbours.
  int64_t outer_ = 1, size_ = 1, inner_ = 1;
  uint64_t block_ = 0;
  std::array<uint32_t, 4> words_{};
  bool has_block_ = false;
};

// Salmon et al., SC 2011, with 20 rounds.
std::array<uint32_t, 2> three_fry_2x32(std::array<uint32_t, 2> counter,
                                       std::array<uint32_t, 2> key);

}  // namespace tessera::ops
