#include "core/types/host_tensor.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace tessera {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

HostTensor iota(Shape shape, DType dtype = DType::s32) {
  HostTensor tensor({dtype, std::move(shape)});
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_int(i, i);
  return tensor;
}

TEST(HostTensor, default_has_no_elements_and_a_new_one_is_zero) {
  EXPECT_EQ(HostTensor().elements(), 0);
  EXPECT_TRUE(HostTensor().bytes().empty());
  const HostTensor zero({DType::f32, {2, 3}});
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(zero.get_real(i), 0);
}

TEST(HostTensor, every_dtype_holds_small_integers_in_all_domains) {
  for (DType dtype : all_dtypes()) {
    HostTensor tensor({dtype, {3}});
    tensor.set_real(0, 1);
    tensor.set_int(1, 1);
    tensor.set_complex(2, {1, 0});
    for (int64_t i = 0; i < 3; ++i) {
      EXPECT_EQ(tensor.get_real(i), 1) << dtype;
      EXPECT_EQ(tensor.get_int(i), 1) << dtype;
      EXPECT_EQ(tensor.get_complex(i), std::complex<double>(1, 0)) << dtype;
    }
  }
}

TEST(HostTensor, integers_wrap_and_reals_saturate) {
  HostTensor tensor({DType::s8, {1}});
  tensor.set_int(0, 300);
  EXPECT_EQ(tensor.get_int(0), 44);
  const std::pair<double, int64_t> cases[] = {{300, 127},  {-300, -128}, {2.9, 2}, {-2.9, -2},
                                              {kInf, 127}, {-kInf, -128}, {NAN, 0}};
  for (const auto& [value, expected] : cases) {
    tensor.set_real(0, value);
    EXPECT_EQ(tensor.get_int(0), expected) << value;
  }
  HostTensor wide({DType::s64, {1}});
  wide.set_real(0, 1e30);
  EXPECT_EQ(wide.get_int(0), std::numeric_limits<int64_t>::max());
  HostTensor positive({DType::u32, {1}});
  positive.set_real(0, -5);
  EXPECT_EQ(positive.get_int(0), 0);
}

// 1 + 2^-8 + 2^-40 lies just above the midpoint of two bf16 values: rounding first to float would
// lose the 2^-40 and then go to even, down to 1.
TEST(HostTensor, a_double_is_rounded_to_a_narrow_float_once) {
  const double above = 1 + std::ldexp(1.0, -8) + std::ldexp(1.0, -40);
  HostTensor tensor({DType::bf16, {1}});
  tensor.set_real(0, above);
  EXPECT_EQ(tensor.get_real(0), 1 + std::ldexp(1.0, -7));
  tensor.set_real(0, -above);
  EXPECT_EQ(tensor.get_real(0), -1 - std::ldexp(1.0, -7));
  const double below = 1 + 3 * std::ldexp(1.0, -8) - std::ldexp(1.0, -40);  // even is up, nearer is down
  tensor.set_real(0, below);
  EXPECT_EQ(tensor.get_real(0), 1 + std::ldexp(1.0, -7));
}

TEST(HostTensor, cast_of_integers_rounds_once) {
  const int64_t big = (int64_t{1} << 60) + (int64_t{1} << 36) + 1;  // above the midpoint of floats
  const HostTensor source = HostTensor::of<int64_t>({1}, std::vector<int64_t>{big});
  EXPECT_EQ(source.cast(DType::f32).data<float>()[0], static_cast<float>(big));
  const HostTensor full = HostTensor::of<uint64_t>({1}, std::vector<uint64_t>{~uint64_t{0}});
  EXPECT_EQ(full.cast(DType::f64).get_real(0), 18446744073709551616.0);
  EXPECT_EQ(full.cast(DType::s8).get_int(0), -1);
}

RC_GTEST_PROP(HostTensor, cast_to_a_wider_type_and_back_is_the_identity, ()) {
  const auto bits = *rc::gen::arbitrary<uint16_t>();
  for (DType narrow : {DType::bf16, DType::f16, DType::s16, DType::u16}) {
    HostTensor source({narrow, {1}});
    std::memcpy(source.bytes().data(), &bits, sizeof bits);
    if (std::isnan(source.get_real(0))) continue;
    RC_ASSERT(source.cast(DType::f32).cast(narrow) == source);
    RC_ASSERT(source.cast(DType::f64).cast(narrow) == source);
  }
}

TEST(HostTensor, complex_numbers) {
  HostTensor tensor({DType::c64, {1}});
  tensor.set_complex(0, {1.5, -2});
  EXPECT_EQ(tensor.get_complex(0), std::complex<double>(1.5, -2));
  EXPECT_EQ(tensor.get_real(0), 1.5);
  EXPECT_TRUE(tensor.cast(DType::c64) == tensor);
  EXPECT_EQ(tensor.cast(DType::f32).get_real(0), 1.5);
}

TEST(HostTensor, slice_and_put) {
  const HostTensor tensor = iota({3, 4});
  const HostTensor block = tensor.slice(std::vector<int64_t>{1, 1}, {2, 2});
  EXPECT_TRUE(block == HostTensor::of<int32_t>({2, 2}, std::vector<int32_t>{5, 6, 9, 10}));
  HostTensor target({DType::s32, {3, 4}});
  target.put(std::vector<int64_t>{0, 2}, block);
  EXPECT_TRUE(target == HostTensor::of<int32_t>(
                            {3, 4}, std::vector<int32_t>{0, 0, 5, 6, 0, 0, 9, 10, 0, 0, 0, 0}));
}

TEST(HostTensor, slice_of_scalars_and_of_nothing) {
  const HostTensor scalar = HostTensor::filled({DType::f32, {}}, 7);
  EXPECT_TRUE(scalar.slice({}, {}) == scalar);
  EXPECT_EQ(iota({3, 4}).slice(std::vector<int64_t>{3, 0}, {0, 4}).elements(), 0);
}

TEST(HostTensor, a_block_outside_is_an_internal_error) {
  HostTensor tensor = iota({3, 4});
  EXPECT_THROW(tensor.slice(std::vector<int64_t>{2, 0}, {2, 4}), InternalError);
  EXPECT_THROW(tensor.slice(std::vector<int64_t>{-1, 0}, {2, 4}), InternalError);
  EXPECT_THROW(tensor.slice(std::vector<int64_t>{0}, {2}), InternalError);
  EXPECT_THROW(tensor.put(std::vector<int64_t>{0, 0}, HostTensor({DType::f32, {1, 1}})),
               InternalError);
  EXPECT_THROW(tensor.reshaped({5}), InternalError);
  EXPECT_THROW(tensor.data<float>(), InternalError);
}

// Element by element: slice reads, and put writes, what positions say; the rest stays.
RC_GTEST_PROP(HostTensor, slice_and_put_agree_with_positions, ()) {
  const int rank = *rc::gen::inRange(0, 5);
  Shape outer, block;
  std::vector<int64_t> start;
  for (int d = 0; d < rank; ++d) {
    outer.push_back(*rc::gen::inRange(1, 5));
    start.push_back(*rc::gen::inRange<int64_t>(0, outer[d]));
    block.push_back(*rc::gen::inRange<int64_t>(1, outer[d] - start[d] + 1));
  }
  const HostTensor tensor = iota(outer);
  const HostTensor part = tensor.slice(start, block);
  std::vector<int64_t> position(static_cast<size_t>(rank), 0);
  int64_t index = 0;
  do {
    std::vector<int64_t> there = position;
    for (int d = 0; d < rank; ++d) there[d] += start[d];
    RC_ASSERT(part.get_int(index) == tensor.get_int(linear_index(there, outer)));
    RC_ASSERT(position_of(index, block) == position);
    RC_ASSERT(linear_index(position, block) == index);
    ++index;
  } while (next_position(position, block));
  RC_ASSERT(index == block.elements());

  HostTensor copy = tensor;
  copy.put(start, part);
  RC_ASSERT(copy == tensor);
  copy.put(start, HostTensor::filled(part.type(), -1));
  int64_t replaced = 0;
  for (int64_t i = 0; i < copy.elements(); ++i) {
    if (copy.get_int(i) == -1) ++replaced;
    else RC_ASSERT(copy.get_int(i) == i);
  }
  RC_ASSERT(replaced == block.elements());
}

TEST(HostTensor, reshape_keeps_elements_and_order) {
  const HostTensor tensor = iota({3, 4});
  const HostTensor flat = tensor.reshaped({12});
  EXPECT_EQ(flat.shape(), Shape({12}));
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(flat.get_int(i), i);
}

TEST(MaxRelativeError, treats_nan_inf_and_shapes_strictly) {
  const auto tensor = [](std::vector<double> values) {
    return HostTensor::of<double>({static_cast<int64_t>(values.size())}, std::span<const double>(values));
  };
  EXPECT_EQ(max_relative_error(tensor({1, 2}), tensor({1, 2})), 0);
  EXPECT_DOUBLE_EQ(max_relative_error(tensor({1, 2}), tensor({1, 4})), 0.5);
  EXPECT_EQ(max_relative_error(tensor({NAN, kInf}), tensor({NAN, kInf})), 0);
  EXPECT_EQ(max_relative_error(tensor({NAN}), tensor({1})), kInf);
  EXPECT_EQ(max_relative_error(tensor({kInf}), tensor({1})), kInf);
  EXPECT_EQ(max_relative_error(tensor({kInf}), tensor({-kInf})), kInf);
  EXPECT_EQ(max_relative_error(tensor({1}), tensor({1, 1})), kInf);
  EXPECT_EQ(max_relative_error(tensor({1e-8}), tensor({0}), 1.0), 1e-8);
}

}  // namespace
}  // namespace tessera
