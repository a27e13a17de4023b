#include "core/runtime/ordered_reduce.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "tests/comm/reference_collectives.h"

namespace tessera {
namespace {

using test::CollectiveCase;

// All types and kinds, any number of sources, results written over some of them.
RC_GTEST_PROP(OrderedReduce, EqualsTheReference, ()) {
  CollectiveCase what = test::random_case(*rc::gen::arbitrary<uint64_t>(), 1, 6000);
  what.kind = CollectiveKind::all_reduce;
  const auto seed = *rc::gen::arbitrary<uint64_t>();
  const int size = *rc::gen::inRange(1, 7);
  std::vector<HostTensor> inputs;
  for (int i = 0; i < size; ++i) inputs.push_back(test::random_input(what, seed, i));
  const HostTensor expected = test::reference_collective(what, inputs)[0];
  std::vector<const std::byte*> sources;
  for (const HostTensor& input : inputs) sources.push_back(input.bytes().data());
  HostTensor extra({what.dtype, what.shape});
  std::vector<std::byte*> destinations{extra.bytes().data(), inputs[0].bytes().data(),
                                       inputs.back().bytes().data()};
  ordered_reduce(sources, destinations, extra.elements(), what.dtype, what.reduce);
  for (const HostTensor* result : {&extra, &inputs[0], &inputs.back()}) {
    if (*result == expected) continue;
    RC_ASSERT(is_float(what.dtype));
    for (int64_t i = 0; i < expected.elements(); ++i)
      RC_ASSERT(result->get_real(i) == expected.get_real(i) ||
                (std::isnan(result->get_real(i)) && std::isnan(expected.get_real(i))));
  }
}

template <typename T>
std::vector<T> reduce(std::vector<std::vector<T>> inputs, ReduceKind kind) {
  std::vector<const std::byte*> sources;
  for (const auto& input : inputs)
    sources.push_back(reinterpret_cast<const std::byte*>(input.data()));
  std::vector<T> result(inputs[0].size());
  std::byte* out = reinterpret_cast<std::byte*>(result.data());
  ordered_reduce(sources, {&out, 1}, static_cast<int64_t>(result.size()), DTypeOf<T>::value, kind);
  return result;
}

TEST(OrderedReduce, NarrowFloatsAreRoundedOnce) {
  // 256 + 1 + 1 is 258 in f32; rounded to bf16 after each addition it would stay 256.
  const std::vector<bfloat16> big(7, bfloat16(256.0f)), one(7, bfloat16(1.0f));
  for (const bfloat16 value : reduce<bfloat16>({big, one, one}, ReduceKind::sum))
    EXPECT_EQ(static_cast<float>(value), 258.0f);
}

TEST(OrderedReduce, OneNanIsEnough) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ReduceKind kind : {ReduceKind::max, ReduceKind::min, ReduceKind::sum}) {
    EXPECT_TRUE(std::isnan(reduce<float>({{nan}, {1}, {2}}, kind)[0]));
    EXPECT_TRUE(std::isnan(reduce<float>({{1}, {nan}, {2}}, kind)[0]));
    EXPECT_TRUE(std::isnan(reduce<float>({{1}, {2}, {nan}}, kind)[0]));
    EXPECT_TRUE(std::isnan(static_cast<float>(
        reduce<bfloat16>({{bfloat16(1.0f), 1.0f}, {bfloat16(nan), 2.0f}}, kind)[0])));
  }
}

TEST(OrderedReduce, InfinitiesSurviveRounding) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto sum =
      reduce<bfloat16>({{bfloat16(infinity), bfloat16(-infinity)}, {1.0f, 1.0f}}, ReduceKind::sum);
  EXPECT_EQ(static_cast<float>(sum[0]), infinity);
  EXPECT_EQ(static_cast<float>(sum[1]), -infinity);
}

TEST(OrderedReduce, IntegersWrap) {
  EXPECT_EQ(reduce<int8_t>({{127}, {1}}, ReduceKind::sum)[0], -128);
  EXPECT_EQ(reduce<uint16_t>({{60000}, {60000}}, ReduceKind::product)[0],
            static_cast<uint16_t>(3600000000u));
}

TEST(OrderedReduce, MeaninglessKindsAreInternalErrors) {
  EXPECT_THROW(check_reducible(DType::c64, ReduceKind::max), InternalError);
  EXPECT_THROW(check_reducible(DType::f32, ReduceKind::logical_and), InternalError);
}

TEST(OrderedReduce, WideningAndRoundingAreInverse) {
  std::vector<bfloat16> values;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    bfloat16 value;
    value.bits = static_cast<uint16_t>(bits);
    values.push_back(value);
  }
  std::vector<float> wide(values.size());
  std::vector<bfloat16> back(values.size());
  widen_to_f32(wide.data(), reinterpret_cast<const std::byte*>(values.data()), 65536, DType::bf16);
  round_from_f32(reinterpret_cast<std::byte*>(back.data()), wide.data(), 65536, DType::bf16);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_TRUE(wide[i] == static_cast<float>(values[i]) || std::isnan(wide[i]));
    if (!std::isnan(wide[i])) {
      ASSERT_EQ(back[i].bits, values[i].bits);
    }
  }
}

}  // namespace
}  // namespace tessera
