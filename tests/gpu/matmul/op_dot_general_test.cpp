// Products of any form by cuBLASLt, against eval in f64.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/gpu/matmul/product_run.h"

namespace tessera {
namespace {

using ops::DotDims;
using ops::kDotGeneral;
using ops::kDotGeneralAdd;

struct Types {
  DType in, out;
};
constexpr Types kTypes[] = {{DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f16, DType::f16},
                            {DType::f16, DType::f32},   {DType::f32, DType::f32},  {DType::f64, DType::f64}};

// A product of dims in any order, up to two of each kind on each side.
struct AnyProduct {
  Shape lhs, rhs;
  DotDims dims;
};

AnyProduct any_product(std::mt19937& generator, int64_t least, int64_t most) {
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  const int64_t batch = pick(0, 2), contracting = pick(0, 2);
  std::vector<int64_t> shared;
  for (int64_t i = 0; i < batch + contracting; ++i) shared.push_back(pick(least, most));
  const auto make_side = [&](Ints& batch_dims, Ints& contracting_dims) {
    std::vector<int64_t> roles;  // index into shared, or -1: free
    for (int64_t i = 0; i < batch + contracting; ++i) roles.push_back(i);
    for (int64_t i = pick(0, 2); i > 0; --i) roles.push_back(-1);
    std::shuffle(roles.begin(), roles.end(), generator);
    Shape shape;
    batch_dims.resize(static_cast<size_t>(batch));
    contracting_dims.resize(static_cast<size_t>(contracting));
    for (size_t d = 0; d < roles.size(); ++d) {
      shape.push_back(roles[d] < 0 ? pick(least, most) : shared[static_cast<size_t>(roles[d])]);
      if (roles[d] >= batch)
        contracting_dims[static_cast<size_t>(roles[d] - batch)] = static_cast<int64_t>(d);
      else if (roles[d] >= 0)
        batch_dims[static_cast<size_t>(roles[d])] = static_cast<int64_t>(d);
    }
    return shape;
  };
  AnyProduct product;
  product.lhs = make_side(product.dims.lhs_batch, product.dims.lhs_contracting);
  product.rhs = make_side(product.dims.rhs_batch, product.dims.rhs_contracting);
  return product;
}

// The largest error, as a part of what rounding allows: for sums, of the largest number in them.
double error_of(const HostTensor& got, const HostTensor& want, double tolerance) {
  double largest = 1, worst = 0;
  for (int64_t i = 0; i < want.elements(); ++i) largest = std::max(largest, std::abs(want.get_real(i)));
  for (int64_t i = 0; i < want.elements(); ++i) {
    const double error = std::abs(got.get_real(i) - want.get_real(i)) / (tolerance * largest);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

void check_product(Backend& backend, std::mt19937& generator, const AnyProduct& product, Types types, bool add,
                   ProductOptions options) {
  std::vector<HostTensor> operands{normal_tensor({types.in, product.lhs}, generator()),
                                   normal_tensor({types.in, product.rhs}, generator())};
  const Attributes attributes = attributes_of(product.dims, types.out);
  if (add) {
    const std::vector<TensorType> factors = types_of(operands);
    operands.insert(operands.begin(), normal_tensor(infer_types(kDotGeneral, {factors, attributes})[0], generator()));
  }
  const OpDef& op = add ? kDotGeneralAdd : kDotGeneral;
  const HostTensor got = product_on(backend, op, attributes, operands, options);
  const HostTensor want = product_in_f64(op, attributes, operands);
  EXPECT_LE(error_of(got, want, product_tolerance(types.in, types.out)), 1)
      << product.lhs << " x " << product.rhs << " " << types.in << " -> " << types.out << (add ? " added" : "")
      << (options.in_place ? " in place" : "") << (options.unaligned ? " unaligned" : "");
}

using CudaProduct = DeviceTest;
using CudaProductLong = DeviceTest;

TEST_F(CudaProduct, DimsInAnyOrder) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937 generator(*rc::gen::arbitrary<unsigned>());
    const Types types = kTypes[*rc::gen::inRange<size_t>(0, std::size(kTypes))];
    const bool add = *rc::gen::arbitrary<bool>(), in_place = add && *rc::gen::arbitrary<bool>();
    const bool unaligned = *rc::gen::arbitrary<bool>();
    const int64_t least = *rc::gen::weightedElement<int64_t>({{1, 0}, {8, 1}});
    const AnyProduct product = any_product(generator, least, 6);
    check_product(backend(), generator, product, types, add, {in_place, unaligned});
    RC_ASSERT(!HasFailure());
  }));
}

// Sizes of which every way of loading fits, and those of which none does.
TEST_F(CudaProduct, MatricesOfOddAndEvenSizes) {
  std::mt19937 generator(5);
  for (const auto& [m, n, k] : {std::tuple{16, 32, 24}, {17, 31, 23}, {1, 40, 16}, {40, 1, 16}, {1, 1, 64}, {8, 8, 1}})
    for (const Types& types : kTypes)
      for (const bool transposed : {false, true}) {
        AnyProduct product{{m, k}, {k, n}, {{1}, {0}}};
        if (transposed) product = {{k, m}, {n, k}, {{0}, {1}}};
        check_product(backend(), generator, product, types, transposed, {});
      }
}

TEST_F(CudaProduct, DepthZeroGivesZerosAndKeepsSums) {
  const Attributes attributes = attributes_of({{1}, {0}});
  const std::vector<HostTensor> factors{HostTensor(TensorType{DType::f32, {3, 0}}),
                                        HostTensor(TensorType{DType::f32, {0, 5}})};
  EXPECT_EQ(product_on(backend(), kDotGeneral, attributes, factors),
            HostTensor::filled({DType::f32, {3, 5}}, 0));
  const HostTensor sum = normal_tensor({DType::f32, {3, 5}}, 1);
  for (const bool in_place : {false, true})
    EXPECT_EQ(product_on(backend(), kDotGeneralAdd, attributes, {sum, factors[0], factors[1]}, {in_place}), sum);
}

// Heads of attention: the batch dims step apart in one operand, so that some are calls of their own.
TEST_F(CudaProduct, ManySeparateBatches) {
  std::mt19937 generator(7);
  const DotDims heads{{3}, {3}, {0, 2}, {0, 2}};
  check_product(backend(), generator, {{3, 5, 4, 8}, {3, 6, 4, 8}, heads}, kTypes[0], false, {});
  // 40 x 41 of them: copies make one batch.
  check_product(backend(), generator, {{40, 2, 41, 3}, {40, 2, 41, 3}, heads}, kTypes[1], true, {true});
}

TEST_F(CudaProduct, SaysWhatItDoesNotTake) {
  const auto refusals = [](const TensorType& lhs, const TensorType& rhs, std::optional<DType> result = {}) {
    const Attributes attributes = attributes_of({{1}, {0}}, result);
    const std::vector<TensorType> operands{lhs, rhs};
    const OpCall call{operands, attributes};
    return join(plugin().kernels().choose(kDotGeneral, call, infer_types(kDotGeneral, call)).refusals);
  };
  EXPECT_NE(refusals({DType::s32, {2, 3}}, {DType::s32, {3, 2}}).find("not s32"), std::string::npos);
  EXPECT_NE(refusals({DType::f32, {2, 3}}, {DType::f32, {3, 2}}, DType::bf16).find("into bf16"), std::string::npos);
}

TEST_F(CudaProduct, SameBitsInEveryRun) {
  const std::vector<HostTensor> operands{normal_tensor({DType::bf16, {24, 64}}, 1),
                                         normal_tensor({DType::bf16, {64, 16}}, 2)};
  const Attributes attributes = attributes_of({{1}, {0}}, DType::f32);
  const HostTensor first = product_on(backend(), kDotGeneral, attributes, operands);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(product_on(backend(), kDotGeneral, attributes, operands), first);
}

TEST_F(CudaProduct, Tf32OnlyWhereAsked) {
  const std::vector<HostTensor> operands{normal_tensor({DType::f32, {16, 64}}, 1),
                                         normal_tensor({DType::f32, {64, 16}}, 2)};
  const Attributes attributes = attributes_of({{1}, {0}});
  const HostTensor want = product_in_f64(kDotGeneral, attributes, operands);
  EXPECT_LE(error_of(product_on(backend(), kDotGeneral, attributes, operands), want, 1e-5), 1);
  const auto with_tf32 = plugin().create_backend({.tf32 = true});
  const HostTensor narrow = product_on(*with_tf32, kDotGeneral, attributes, operands);
  EXPECT_LE(error_of(narrow, want, 2e-3), 1);
  EXPECT_GE(error_of(narrow, want, 1e-5), 1);
}

TEST_F(CudaProduct, IsRecordedAndReplayed) {
  if (!backend().can_capture()) GTEST_SKIP();
  std::vector<HostTensor> operands{HostTensor::filled({DType::f32, {16, 16}}, 0),
                                   normal_tensor({DType::f32, {16, 16}}, 1), normal_tensor({DType::f32, {16, 16}}, 2)};
  const Attributes attributes = attributes_of({{1}, {0}});
  ProductRun product(backend(), kDotGeneralAdd, attributes, operands, {.in_place = true});
  product.prepare();
  backend().begin_capture();
  product.run();
  const int recording = backend().end_capture();
  for (int i = 0; i < 3; ++i) backend().replay(recording);
  HostTensor want = product_in_f64(kDotGeneral, attributes, {operands[1], operands[2]});
  for (int64_t i = 0; i < want.elements(); ++i) want.set_real(i, 3 * want.get_real(i));
  EXPECT_LE(error_of(product.result(), want, 1e-5), 1);
}

TEST_F(CudaProductLong, LargeMatrices) {
  std::mt19937 generator(3);
  for (const auto& [m, n, k] : {std::tuple{1024, 768, 512}, {513, 1031, 777}})
    for (const Types& types : kTypes) check_product(backend(), generator, {{m, k}, {k, n}, {{1}, {0}}}, types, true, {true});
}

}  // namespace
}  // namespace tessera
