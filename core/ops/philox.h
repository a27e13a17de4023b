// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3" (SC 2011). Counter-based means that element i of a tensor has its
// value on every mesh, in any order of computation, without a state.
#pragma once

#include <array>
#include <cstdint>

namespace tessera {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

PhiloxCounter philox4x32_10(PhiloxCounter counter, PhiloxKey key);

// 128 random bits for element `index` of draw (seed, site): key = low words of (seed, site),
// counter = (index low, index high, seed high, site high).
PhiloxCounter random_bits(uint64_t seed, uint64_t site, uint64_t index);

// Uniform in [0, 1) on a grid of 2^-precision (1 <= precision <= 53).
double random_uniform(uint64_t seed, uint64_t site, uint64_t index, int precision = 53);
// Standard normal, by Box and Muller's cosine branch.
double random_normal(uint64_t seed, uint64_t site, uint64_t index);

// ---- Draws that a training step makes: masks of dropout, stochastic rounding ---------------------
//
// An element takes 16 bits, and eight neighbours share a block: key = low words of (seed, site),
// counter = (index / 8 low, index / 8 high, low word of step, high word of seed). `index` is the
// element's in the logical tensor. Sites of such draws lie apart from those of initial values, which
// count up from 0.
constexpr int64_t kDropoutSites = int64_t{1} << 28, kRoundingSites = int64_t{2} << 28;
constexpr int64_t kStepBitsPerBlock = 8;

// Those of elements 8 block ... 8 block + 7, two a word, the lower half first.
PhiloxCounter step_bits(uint64_t seed, uint64_t site, uint64_t step, uint64_t block);
// Those of one element.
uint32_t step_bits_of(uint64_t seed, uint64_t site, uint64_t step, uint64_t index);

}  // namespace tessera
