#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

const std::vector<DType> kNumbers = {DType::f32, DType::bf16, DType::s32, DType::s64};
const std::vector<ReduceKind> kKinds = {ReduceKind::sum, ReduceKind::max, ReduceKind::min,
                                        ReduceKind::product};

class CudaReduce : public OpTest {
 protected:
  static bool reduces(DType dtype, const Shape& shape, const Ints& dims, ReduceKind kind,
                      bool has_init) {
    const bool is_product = kind == ReduceKind::product && is_float(dtype);
    const double low = is_product ? 0.9 : -3, high = is_product ? 1.1 : 3;
    std::vector<HostTensor> operands = {uniform_tensor({dtype, shape}, low, high)};
    if (has_init) operands.push_back(uniform_tensor({dtype, {}}, low, high, 9));
    return computes(ops::kReduce, operands, {{Attr::dimensions, dims}, {Attr::reduce_kind, kind}},
                    "cuda.reduce");
  }
};
using CudaReduceLong = CudaReduce;

// Every way that a reduction is cut up, with whole packs and without.
const std::vector<std::pair<Shape, Ints>> kShapes = {
    {{1, 20000}, {1}}, {{30001}, {0}},     {{3, 9000}, {1}},      {{300, 40}, {1}},
    {{500, 3}, {1}},   {{40, 1100}, {1}},  {{2000, 40}, {0}},     {{3000, 24}, {0}},
    {{1500, 7}, {0}},  {{2, 900, 5}, {1}}, {{100, 7, 16}, {1}},   {{5, 0, 3}, {1}},
    {{5, 0, 3}, {0}},  {{0, 3}, {1}},      {{0, 5, 3}, {0, 2}},   {{3, 1, 5}, {1}},
    {{3, 4, 5}, {}},   {{}, {}},           {{3, 4, 5, 6}, {0, 2}}};

TEST_F(CudaReduce, CombinesNumbersInEveryWay) {
  for (const auto& [shape, dims] : kShapes)
    for (DType dtype : kNumbers)
      for (ReduceKind kind : kKinds)
        ASSERT_TRUE(reduces(dtype, shape, dims, kind, kind == ReduceKind::max));
}

TEST_F(CudaReduce, CombinesPredInEveryWay) {
  for (const auto& [shape, dims] : kShapes)
    for (ReduceKind kind : {ReduceKind::logical_and, ReduceKind::logical_or})
      ASSERT_TRUE(reduces(DType::pred, shape, dims, kind, kind == ReduceKind::logical_or));
}

TEST_F(CudaReduce, TakesAnyDims) {
  EXPECT_TRUE(rc::check([] {
    const int64_t rank = pick(0, 6);
    Ints dims;
    for (int64_t d = 0; d < rank; ++d)
      if (pick(0, 1)) dims.push_back(d);
    const DType dtype = pick_of(kNumbers);
    const ReduceKind kind = pick_of(kKinds);
    RC_ASSERT(reduces(dtype, pick_shape(rank, 3000), dims, kind, pick(0, 1)));
  }));
}

TEST_F(CudaReduce, KeepsNaN) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (ReduceKind kind : kKinds)
      for (int64_t dim : {0, 1}) {
        HostTensor x = uniform_tensor({dtype, {70, 130}}, -1, 1);
        for (int64_t i : {0, 777, 5000, 9099}) x.set_real(i, NAN);
        EXPECT_TRUE(computes(ops::kReduce, {x},
                             {{Attr::dimensions, Ints{dim}}, {Attr::reduce_kind, kind}},
                             "cuda.reduce"));
      }
}

TEST_F(CudaReduce, RecognisesRegionsAndRefusesOthers) {
  const std::vector<HostTensor> operands = {uniform_tensor({DType::f32, {40, 6}}, -1, 1),
                                            scalar_tensor(DType::f32, 2)};
  Attributes attributes{{Attr::dimensions, Ints{0}},
                        {Attr::combiner, ops::combiner_of(ReduceKind::max, DType::f32)}};
  EXPECT_TRUE(computes(ops::kReduce, operands, attributes, "cuda.reduce"));
  auto region = std::make_shared<Graph>();
  region->name = "difference";
  Builder b(*region);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {}}),
              y = b.input(InputKind::data, "y", {DType::f32, {}});
  b.output(ops::subtract(b, x, y), "difference");
  attributes.set(Attr::combiner, GraphRef(region));
  EXPECT_TRUE(is_refused(ops::kReduce, operands, attributes, "combiner region"));
  EXPECT_TRUE(is_refused(ops::kReduce, {uniform_tensor({DType::f64, {4}}, 0, 1)},
                         {{Attr::dimensions, Ints{0}}, {Attr::reduce_kind, ReduceKind::sum}},
                         "not f64"));
}

TEST_F(CudaReduceLong, GradientsOfBiasesAndWholeTensors) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (const auto& [shape, dims] : std::vector<std::pair<Shape, Ints>>{{{8192, 3072}, {0}},
                                                                         {{8192, 3072}, {1}},
                                                                         {{8192, 3072}, {0, 1}},
                                                                         {{64, 1024, 50}, {1}},
                                                                         {{1030, 4104}, {1}}})
      EXPECT_TRUE(reduces(dtype, shape, dims, ReduceKind::sum, false));
}

}  // namespace
}  // namespace tessera
