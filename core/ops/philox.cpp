#include "core/ops/philox.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace tessera {
namespace {

// The paper's constants: multipliers of table 2 and the Weyl sequence of the key schedule.
constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

// The top `precision` of 64 bits as a number in [0, 1).
double to_unit(uint32_t high, uint32_t low, int precision) {
  const uint64_t bits = (uint64_t{high} << 32 | low) >> (64 - precision);
  // 2^-precision by its bits: a call of ldexp costs more than the generator.
  const double step = std::bit_cast<double>(static_cast<uint64_t>(1023 - precision) << 52);
  return static_cast<double>(bits) * step;
}

}  // namespace

PhiloxCounter philox4x32_10(PhiloxCounter x, PhiloxKey key) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t a = uint64_t{kMultiplier0} * x[0], b = uint64_t{kMultiplier1} * x[2];
    x = {static_cast<uint32_t>(b >> 32) ^ x[1] ^ key[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ x[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return x;
}

PhiloxCounter random_bits(uint64_t seed, uint64_t site, uint64_t index) {
  auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
  auto high = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
  return philox4x32_10({low(index), high(index), high(seed), high(site)}, {low(seed), low(site)});
}

double random_uniform(uint64_t seed, uint64_t site, uint64_t index, int precision) {
  TESSERA_CHECK(precision >= 1 && precision <= 53, "precision ", precision);
  const PhiloxCounter bits = random_bits(seed, site, index);
  return to_unit(bits[0], bits[1], precision);
}

double random_normal(uint64_t seed, uint64_t site, uint64_t index) {
  const PhiloxCounter bits = random_bits(seed, site, index);
  const double radius = std::sqrt(-2 * std::log(1 - to_unit(bits[0], bits[1], 53)));  // of (0, 1]
  return radius * std::cos(2 * std::numbers::pi * to_unit(bits[2], bits[3], 53));
}

PhiloxCounter step_bits(uint64_t seed, uint64_t site, uint64_t step, uint64_t block) {
  return philox4x32_10({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                        static_cast<uint32_t>(step), static_cast<uint32_t>(seed >> 32)},
                       {static_cast<uint32_t>(seed), static_cast<uint32_t>(site)});
}

uint32_t step_bits_of(uint64_t seed, uint64_t site, uint64_t step, uint64_t index) {
  const uint32_t word = step_bits(seed, site, step, index / 8)[index % 8 / 2];
  return index % 2 == 0 ? word & 0xffff : word >> 16;
}

}  // namespace tessera
