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

TEST(RngBitGenerator, PhiloxBlocksInOrder) {
  const auto made =
      evaluate(ops::kRngBitGenerator, bits({DType::u32, {6}}, "philox"), {state({7, 0})});
  const PhiloxCounter first = philox4x32_10({0, 0, 0, 0}, {7, 0}),
                      second = philox4x32_10({1, 0, 0, 0}, {7, 0});
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
  for (const std::string algorithm : {"philox", "three_fry"})
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
