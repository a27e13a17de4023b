// Random bits from an explicit state, as StableHLO's rng_bit_generator.
//
// Element i of the tensor is a function of the state and i alone, so the bits are the same on every
// mesh. philox: state u64[2] or u64[3] = key, counter (low, high); block j is Philox4x32-10 of
// counter + j, its four words are elements 4 j .. 4 j + 3 (of 64-bit dtypes two elements, low word
// first). three_fry: state u64[2] = key, counter; block j is ThreeFry2x32 (20 rounds) of counter +
// j, its words are elements j and j + half (64-bit: one element). 8- and 16-bit elements are the
// low bits of a word. The specification leaves the bits to the implementation; XLA's differ, as it
// scrambles the key of philox first.
#pragma once

#include <array>
#include <cstdint>

#include "core/ir/builder.h"

namespace tessera::ops {

// rng_bit_generator{rng_algorithm, shape, dtype}(state) -> next state, bits
extern const OpDef kRngBitGenerator;
struct RandomBits {
  Value state, bits;
};
RandomBits rng_bit_generator(Builder& b, Value state, TensorType type,
                             const std::string& algorithm = "philox");

// Salmon et al., SC 2011, with 20 rounds.
std::array<uint32_t, 2> three_fry_2x32(std::array<uint32_t, 2> counter,
                                       std::array<uint32_t, 2> key);

}  // namespace tessera::ops
