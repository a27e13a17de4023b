#include "core/types/shape.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/base/strings.h"
#include "core/types/dispatch.h"
#include "core/types/reduce_kind.h"

namespace tessera {
namespace {

TEST(DType, names_parse_back_and_sizes_are_those_of_storage) {
  EXPECT_EQ(all_dtypes().size(), 16u);
  int index = 0;
  for (DType dtype : all_dtypes()) {
    EXPECT_EQ(static_cast<int>(dtype), index++);
    EXPECT_EQ(parse_dtype(name_of(dtype)), dtype);
    EXPECT_EQ(cat(dtype), name_of(dtype));
    dispatch_dtype(dtype, [&]<typename T>() {
      EXPECT_EQ(static_cast<int64_t>(sizeof(T)), size_of(dtype)) << dtype;
      EXPECT_EQ(DTypeOf<T>::value, dtype);
    });
  }
  EXPECT_EQ(parse_dtype("f99"), std::nullopt);
  EXPECT_EQ(parse_dtype(""), std::nullopt);
}

TEST(DType, kinds_are_exclusive) {
  for (DType dtype : all_dtypes()) {
    EXPECT_FALSE(is_float(dtype) && is_integer(dtype)) << dtype;
    EXPECT_TRUE(is_integer(dtype) || !is_signed_integer(dtype)) << dtype;
  }
  EXPECT_FALSE(is_integer(DType::pred));
  EXPECT_FALSE(is_float(DType::c64));
  EXPECT_TRUE(is_float(DType::f8e5m2));
}

TEST(ReduceKind, names_parse_back) {
  for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::min, ReduceKind::product,
                          ReduceKind::logical_and, ReduceKind::logical_or})
    EXPECT_EQ(parse_reduce_kind(name_of(kind)), kind);
  EXPECT_EQ(parse_reduce_kind("mean"), std::nullopt);
}

TEST(Shape, elements_and_strides) {
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(Shape({4, 0, 3}).elements(), 0);
  const Shape shape = {4, 5, 6};
  EXPECT_EQ(shape.elements(), 120);
  EXPECT_EQ(shape.strides(), (std::vector<int64_t>{30, 6, 1}));
  EXPECT_TRUE(Shape().strides().empty());
}

TEST(TensorType, prints) {
  EXPECT_EQ(cat(TensorType{DType::f32, {4, 64}}), "f32[4,64]");
  EXPECT_EQ(cat(TensorType{DType::pred, {}}), "pred[]");
  EXPECT_EQ((TensorType{DType::bf16, {3, 5}}).bytes(), 30);
}

TEST(TensorType, refuses_what_is_no_type) {
  for (const char* text : {"", "f32", "f32[", "f32]", "[4]", "q7[4]", "f32[4,]", "f32[,4]", "f32[-1]",
                           "f32[4", "f32[a]", "f32[4]x", "f32[ 4]", "f32[99999999999999999999]"})
    EXPECT_EQ(parse_tensor_type(text), std::nullopt) << text;
}

RC_GTEST_PROP(TensorType, print_parse_is_the_identity, ()) {
  const auto dims = *rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(0, 1 << 20));
  const auto dtype = all_dtypes()[*rc::gen::inRange<size_t>(0, all_dtypes().size())];
  const TensorType type{dtype, Shape(dims)};
  RC_ASSERT(parse_tensor_type(cat(type)) == type);
}

}  // namespace
}  // namespace tessera
