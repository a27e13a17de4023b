// Sorts against the reference: ties, zeros and NaN of both signs, all dtypes, padding.
#include "core/ops/elementwise.h"
#include "core/ops/sort.h"
#include "core/ops/sort_merge.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera {
namespace {

const std::vector<DType> kSortable = {DType::pred, DType::s8,   DType::s16, DType::s64,
                                      DType::u8,   DType::u32,  DType::u64, DType::f8e4m3fn,
                                      DType::f16,  DType::bf16, DType::f32, DType::f64};

// Few values, so that there are ties; floats with both zeros, infinities and NaN of both signs.
HostTensor with_ties(const TensorType& type, unsigned seed) {
  HostTensor tensor(type);
  std::mt19937 rng(seed);
  const double special[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, -NAN, 1.5, -2};
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (is_float(type.dtype))
      tensor.set_real(i, special[rng() % 8]);
    else
      tensor.set_int(i, static_cast<int64_t>(rng() % 5) - (is_signed_integer(type.dtype) ? 2 : 0));
  }
  return tensor;
}

TEST(SortKernels, AllDtypes) {
  for (DType dtype : kSortable)
    for (CompareDirection direction : {CompareDirection::lt, CompareDirection::gt})
      for (int64_t dim : {0, 1}) {
        const TensorType key{dtype, {37, 29}}, follower{DType::s32, {37, 29}};
        const OpSample sample{{key, follower},
                              {{Attr::dimension, dim}, {Attr::direction, direction}},
                              {{-1, 1}, {0, 1000}}};
        EXPECT_TRUE(check_call(ops::kSort, sample, {with_ties(key, 3)}).accepted);
      }
}

TEST(SortKernels, ByARegionOfOneKeyAndWithPaddingLast) {
  const TensorType key{DType::f32, {7, 50}}, other{DType::bf16, {7, 50}},
      last{DType::pred, {7, 50}};
  const GraphRef by_second = ops::comparator_of({DType::bf16, DType::f32}, CompareDirection::gt, 1);
  const OpSample region{{other, key}, {{Attr::dimension, int64_t{1}}, {Attr::combiner, by_second}}};
  EXPECT_TRUE(check_call(ops::kSort, region).accepted);
  const Attributes plain{{Attr::dimension, int64_t{1}}, {Attr::direction, CompareDirection::lt}};
  const OpSample padded{{key, other, last},
                        {{Attr::dimension, int64_t{1}},
                         {Attr::combiner, ops::padding_last(plain, {DType::f32, DType::bf16})}},
                        {{-1, 1}, {-1, 1}, {0, 1}}};
  EXPECT_TRUE(check_call(ops::kSort, padded, {with_ties(key, 5)}).accepted);
  const GraphRef by_le = ops::comparator_of({DType::f32}, CompareDirection::le);
  EXPECT_EQ(
      check_call(ops::kSort, {{key}, {{Attr::dimension, int64_t{1}}, {Attr::combiner, by_le}}})
          .refusals,
      "cpu.sort: no order by one operand, lt or gt");
}

TEST(SortKernels, TopK) {
  for (DType dtype : kSortable)
    for (bool largest : {true, false})
      for (int64_t k : {0, 1, 7, 64}) {
        const TensorType x{dtype, {33, 64}};
        const OpSample sample{{x}, {{Attr::k, k}, {Attr::largest, largest}}};
        EXPECT_TRUE(check_call(ops::kTopK, sample, {with_ties(x, 9)}).accepted);
      }
}

TEST(SortKernels, ComparesInTotalOrder) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::s32})
    for (CompareDirection direction :
         {CompareDirection::eq, CompareDirection::ne, CompareDirection::lt, CompareDirection::le,
          CompareDirection::gt, CompareDirection::ge}) {
      const TensorType x{dtype, {700}};
      const OpSample sample{{x, x}, {{Attr::direction, direction}, {Attr::total_order, true}}};
      EXPECT_TRUE(check_call(ops::kCompare, sample, {with_ties(x, 1), with_ties(x, 2)}).accepted);
    }
}

}  // namespace
}  // namespace tessera
