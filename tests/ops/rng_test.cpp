#include "core/ops/rng.h"

#include <gtest/gtest.h>

#include <set>

#include "core/ops/philox.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;

HostTensor state(std::vector<uint64_t> words) {
  return HostTensor::of<uint64_t>({static_cast<int64_t>(words.size())}, words);
}
Attributes bits(TensorType type, const std::string& algorithm) {
  return {{Attr::rng_algorithm, algorithm},
          {Attr::shape, Ints(type.shape.begin(), type.shape.end())},
          {Attr::dtype, type.dtype}};
}

// The known-answer vectors of the authors' Random123 distribution.
TEST(ThreeFry, KnownAnswers) {
  using Pair = std::array<uint32_t, 2>;
  EXPECT_EQ(ops::three_fry_2x32({0, 0}, {0, 0}), (Pair{0x6b200159, 0x99ba4efe}));
  EXPECT_EQ(ops::three_fry_2x32({~0u, ~0u}, {~0u, ~0u}), (Pair{0x1cb996fc, 0xbb002be7}));
  EXPECT_EQ(ops::three_fry_2x32({0x243f6a88, 0x85a308d3}, {0x13198a2e, 0x03707344}),
            (Pair{0xc4923a9c, 0x483df7a0}));
}

// What XLA gives on the CPU (JAX 0.10.2, lax.rng_bit_generator): the next counter, the first and
// the last element, and all elements as the digits of a number, modulo 2^64.
TEST(RngBitGenerator, IsThatOfXla) {
  struct Row {
    std::string algorithm;
    std::vector<uint64_t> state;
    TensorType type;
    uint64_t next, first, last, all;
  };
  // clang-format off
  const std::vector<Row> rows = {
      {"philox", {7, 0xb}, {DType::u32, {5}}, 0xd, 0x63737cfd, 0x90023b23, 0x6a16c5e5979196cd},
      {"philox", {7, 0xb}, {DType::u64, {5}}, 0xe, 0x9d1ff03963737cfd, 0x6e4865228fa3735, 0x9eabae892326c335},
      {"philox", {7, 0xb}, {DType::u16, {5}}, 0xd, 0x7cfd, 0x3b23, 0xd6b1bfdb6a1096cd},
      {"philox", {7, 0xb}, {DType::u8, {5}}, 0xd, 0xfd, 0x23, 0x8cb118a359198ecd},
      {"philox", {7, 0xb}, {DType::u32, {3, 5}}, 0xf, 0x63737cfd, 0x9fbcef32, 0x2d8fce0752915000},
      {"philox", {7, 0xb}, {DType::u64, {3, 5}}, 0x13, 0x9d1ff03963737cfd, 0x67f80387d8a1d746, 0xe1f8ef04f98dab86},
      {"philox", {7, 0xb}, {DType::u16, {3, 5}}, 0xf, 0x7cfd, 0xef32, 0x3f799da3543d5000},
      {"philox", {7, 0xb}, {DType::u8, {3, 5}}, 0xf, 0xfd, 0x32, 0x1961aca0ec08ff00},
      {"philox", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {5}}, 0xfedcba9876543212, 0x1ec53d42, 0xcb472319, 0x2fe6b47b9b32b291},
      {"philox", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {3, 5}}, 0xfedcba9876543214, 0x1ec53d42, 0xa07766e5, 0x448fef98d542d39c},
      {"philox", {3, 0xffffffffffffffff}, {DType::u32, {5}}, 0x1, 0x67533ba1, 0x76f63d01, 0xa4a8fadfd340e192},
      {"philox", {3, 0xffffffffffffffff}, {DType::u32, {3, 5}}, 0x3, 0x67533ba1, 0x1431856d, 0x1b7e534bb69364d1},
      {"default", {7, 0xb}, {DType::u32, {4, 3}}, 0xe, 0x63737cfd, 0x8b8044e8, 0x90739f530e22db4d},
      {"default", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {4, 3}}, 0xfedcba9876543213, 0x1ec53d42, 0x1ece479b, 0x7e999e496af6c9aa},
      {"default", {3, 0xffffffffffffffff}, {DType::u32, {4, 3}}, 0x2, 0x67533ba1, 0x8e6adba9, 0x1d9db38c7c4c4f9a},
      {"three_fry", {7, 0xb}, {DType::u32, {}}, 0xc, 0x843c52a3, 0x843c52a3, 0x843c52a3},
      {"three_fry", {7, 0xb}, {DType::u32, {5}}, 0xe, 0x843c52a3, 0x88b5a788, 0x1b40008c8346bb76},
      {"three_fry", {7, 0xb}, {DType::u64, {5}}, 0x10, 0x2d2c6d4e843c52a3, 0xbfaac66139a765f8, 0xed74f0e5d9cb2ff},
      {"three_fry", {7, 0xb}, {DType::u16, {5}}, 0xe, 0x52a3, 0xa788, 0x451839aa963cbb76},
      {"three_fry", {7, 0xb}, {DType::u8, {5}}, 0xe, 0xa3, 0x88, 0x341da2b934606876},
      {"three_fry", {7, 0xb}, {DType::u32, {6}}, 0xe, 0x843c52a3, 0xe966c720, 0xf1b8a164378344de},
      {"three_fry", {7, 0xb}, {DType::u32, {3, 5}}, 0x14, 0x843c52a3, 0x82b74db8, 0x71dff92bdfbcde8f},
      {"three_fry", {7, 0xb}, {DType::u64, {3, 5}}, 0x1a, 0x2d2c6d4e843c52a3, 0x907b35756ed99531, 0x4ed167dc1a9598f9},
      {"three_fry", {7, 0xb}, {DType::u16, {3, 5}}, 0x14, 0x52a3, 0x4db8, 0xadd080b496b4de8f},
      {"three_fry", {7, 0xb}, {DType::u8, {3, 5}}, 0x14, 0xa3, 0xb8, 0xa5c9d96aae6d978f},
      {"three_fry", {7, 0xb}, {DType::u32, {7, 5}}, 0x1f, 0x843c52a3, 0x76755476, 0x2d6971f63e5628a1},
      {"three_fry", {7, 0xb}, {DType::u32, {5, 3, 7}}, 0x47, 0x843c52a3, 0x9473dda1, 0x20ebeb8e740d474e},
      {"three_fry", {7, 0xb}, {DType::u32, {3, 4, 2}}, 0x17, 0x843c52a3, 0xf14f49e, 0x57f4f9684f2d5fcd},
      {"three_fry", {7, 0xb}, {DType::u32, {2, 2, 3}}, 0x11, 0x843c52a3, 0x37222518, 0x19411810c6c55299},
      {"three_fry", {7, 0xb}, {DType::u32, {1, 1}}, 0xc, 0x843c52a3, 0x843c52a3, 0x843c52a3},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {}}, 0xfedcba9876543211, 0xaed4a37f, 0xaed4a37f, 0xaed4a37f},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {5}}, 0xfedcba9876543213, 0xaed4a37f, 0xaee5264e, 0x1b9f4fa5f47a8bea},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {6}}, 0xfedcba9876543213, 0xaed4a37f, 0xb089da7a, 0xff9fa1745caf889c},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {3, 5}}, 0xfedcba9876543219, 0xaed4a37f, 0x56cf7af2, 0xb449670bb62a518c},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {7, 5}}, 0xfedcba9876543224, 0xaed4a37f, 0x72e58291, 0x5f6577666f52b8f6},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {5, 3, 7}}, 0xfedcba987654324c, 0xaed4a37f, 0x2b95acfb, 0x1d902cdd8a47ba3f},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {3, 4, 2}}, 0xfedcba987654321c, 0xaed4a37f, 0x4050f5ff, 0xa3d4844175549809},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {2, 2, 3}}, 0xfedcba9876543216, 0xaed4a37f, 0xdd188ee6, 0x622395bdadb9e4c1},
      {"three_fry", {0x123456789abcdef, 0xfedcba9876543210}, {DType::u32, {1, 1}}, 0xfedcba9876543211, 0xaed4a37f, 0xaed4a37f, 0xaed4a37f},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {}}, 0x0, 0x677424a7, 0x677424a7, 0x677424a7},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {5}}, 0x2, 0x677424a7, 0xc7f98059, 0x679de17c75133752},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {6}}, 0x2, 0x677424a7, 0xec09dd7c, 0x4fdc1afb939644e6},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {3, 5}}, 0x8, 0x677424a7, 0x32a4647c, 0xef71138b4f6b8a04},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {7, 5}}, 0x13, 0x677424a7, 0x18341d50, 0xdb37ccc9c40da48d},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {5, 3, 7}}, 0x3b, 0x677424a7, 0x7883edcf, 0x89325cda9593416},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {3, 4, 2}}, 0xb, 0x677424a7, 0x54ebf3f7, 0x9ed7d7d536d71148},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {2, 2, 3}}, 0x5, 0x677424a7, 0xde37f8ba, 0x7ea1fbf9b27a9c24},
      {"three_fry", {3, 0xffffffffffffffff}, {DType::u32, {1, 1}}, 0x0, 0x677424a7, 0x677424a7, 0x677424a7},
      // Through its own compiler, as JAX has no state of three words.
      {"philox", {3, 0xffffffffffffffff, 5}, {DType::u32, {5}}, 1, 0x73b23e9f, 0xfeec574b, 0xbd7561dba316b438}};
  // clang-format on
  for (const Row& row : rows) {
    const auto made =
        evaluate(ops::kRngBitGenerator, bits(row.type, row.algorithm), {state(row.state)});
    uint64_t all = 0;
    const int64_t width = 8 * size_of(row.type.dtype), count = made[1].elements();
    const uint64_t mask = ~uint64_t{0} >> (64 - width);
    const auto element = [&](int64_t i) {
      return static_cast<uint64_t>(made[1].get_int(i)) & mask;
    };
    for (int64_t i = 0; i < count; ++i) all = all * 6364136223846793005u + element(i);
    const std::string what = cat(row.algorithm, " ", row.type, " from ", row.state[0]);
    EXPECT_EQ(static_cast<uint64_t>(made[0].get_int(0)), row.state[0]) << what;
    EXPECT_EQ(static_cast<uint64_t>(made[0].get_int(1)), row.next) << what;
    EXPECT_EQ(element(0), row.first) << what;
    EXPECT_EQ(element(count - 1), row.last) << what;
    EXPECT_EQ(all, row.all) << what;
  }
}

TEST(RngBitGenerator, PhiloxBlocksInOrder) {
  const auto made =
      evaluate(ops::kRngBitGenerator, bits({DType::u32, {6}}, "philox"), {state({7, 0})});
  const PhiloxCounter first = philox4x32_10({0, 0, 7, 0}, {7, 0}),
                      second = philox4x32_10({1, 0, 7, 0}, {7, 0});
  for (int64_t i = 0; i < 6; ++i)
    EXPECT_EQ(static_cast<uint32_t>(made[1].get_int(i)),
              i < 4 ? first[static_cast<size_t>(i)] : second[static_cast<size_t>(i - 4)]);
  EXPECT_EQ(made[0], state({7, 2}));
}

// The next draw goes on where this one ends, and the counter carries.
TEST(RngBitGenerator, StatesFollowEachOther) {
  for (const std::string algorithm : {"philox", "three_fry"}) {
    const Attributes draw = bits({DType::u32, {8}}, algorithm);
    const auto first = evaluate(ops::kRngBitGenerator, draw, {state({3, 11})});
    const auto second = evaluate(ops::kRngBitGenerator, draw, {first[0]});
    std::set<int64_t> seen;
    for (int64_t i = 0; i < 8; ++i) seen.insert({first[1].get_int(i), second[1].get_int(i)});
    EXPECT_EQ(seen.size(), 16u) << algorithm;
  }
  const auto made = evaluate(ops::kRngBitGenerator, bits({DType::u32, {8}}, "philox"),
                             {state({3, ~uint64_t{0}, 5})});
  EXPECT_EQ(made[0], state({3, 1, 6}));
}

// Pitfall 12: the bits of an element depend on its global index alone: shards of any size, uneven
// and padded ones too, hold parts of one tensor.
TEST(RngBitGenerator, ShardsHoldPartsOfOneTensor) {
  for (const std::string algorithm : {"philox", "three_fry", "default"})
    for (DType dtype : {DType::u32, DType::u64, DType::u8}) {
      const TensorType whole{dtype, {5, 3}};
      const auto expected =
          evaluate(ops::kRngBitGenerator, bits(whole, algorithm), {state({9, 1})});
      for (int64_t devices : {2, 3, 4, 8}) {
        const int64_t size = (5 + devices - 1) / devices;
        for (int64_t d = 0; d < devices; ++d) {
          Attributes local = bits({dtype, {size, 3}}, algorithm);
          local.set(Attr::limit_indices, Ints{5, 3});
          HostTensor start({DType::s64, {}}), zero({DType::s64, {}});
          start.set_int(0, d * size);
          const auto made = evaluate(ops::kRngBitGenerator, local, {state({9, 1}), start, zero});
          EXPECT_EQ(made[0], expected[0]);
          for (int64_t i = 0; i < size && d * size + i < 5; ++i)
            for (int64_t j = 0; j < 3; ++j)
              EXPECT_EQ(made[1].get_int(i * 3 + j), expected[1].get_int((d * size + i) * 3 + j));
        }
      }
    }
}

}  // namespace
}  // namespace tessera
