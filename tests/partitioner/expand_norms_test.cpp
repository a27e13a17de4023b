#include "partitioner/expand_norms.h"

#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/structure.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

// y, and the gradients of sum(y w) for x and the weights, of a norm over the rows of x.
Graph norm_and_gradients(bool is_rms, DType dtype) {
  Graph graph;
  Builder b(graph);
  const std::vector<std::string> axes = {"batch", "length", "embed"};
  const TensorType type{dtype, {8, 4, 16}};
  const Value x = b.input(InputKind::data, "x", type, axes);
  const Value w = b.input(InputKind::data, "w", type, axes);
  std::vector<Value> wrt = {x, b.input(InputKind::parameter, "gain", {dtype, {16}}, {"norm"})};
  if (!is_rms) wrt.push_back(b.input(InputKind::parameter, "bias", {dtype, {16}}, {"norm"}));
  const Value y = is_rms ? ops::rms_norm(b, x, wrt[1], 1e-5).y
                         : ops::layer_norm(b, x, wrt[1], wrt[2], 1e-5).y;
  b.annotate(y, axes);
  b.output(y, "y");
  const std::vector<Value> found = gradients(b, ops::reduce_all(b, ops::multiply(b, y, w)), wrt);
  for (size_t i = 0; i < found.size(); ++i) b.output(found[i], cat("gradient", i));
  return graph;
}

TEST(ExpandNorms, IsTheSameAfterEveryPass) {
  for (bool is_rms : {false, true})
    for (const char* rules : {"embed=model", "batch=data embed=model", "batch=data,model",
                              "length=data embed=model"}) {
      const std::string failure = check_every_pass(norm_and_gradients(is_rms, DType::f64),
                                                   mesh_of("data=2,model=4"), config_of("", rules));
      EXPECT_TRUE(failure.empty()) << rules << ": " << failure;
    }
  EXPECT_EQ(check_every_pass(norm_and_gradients(false, DType::bf16), mesh_of("data=2,model=4"),
                             config_of("", "embed=model"), {}, 0.05),
            "");
}

// Nothing but statistics moves: two sums of 32 rows forward, two backward; one each for rms_norm.
TEST(ExpandNorms, OnlyStatisticsMove) {
  for (bool is_rms : {false, true}) {
    PartitionReport report;
    partition(norm_and_gradients(is_rms, DType::f32), mesh_of("model=4"),
              config_of("", "embed=model"), {}, &report);
    int64_t bytes = 0;
    for (const CollectiveSummary& one : report.collectives)
      if (one.op == "all_reduce") bytes += one.bytes;
    EXPECT_EQ(bytes, (is_rms ? 2 : 4) * 32 * 4) << collectives_of(report);
  }
}

// Rows that are whole keep their kernel.
TEST(ExpandNorms, WholeRowsStayComposites) {
  const Graph local = partition(norm_and_gradients(false, DType::f32), mesh_of("data=2,model=4"),
                                config_of("", "batch=data length=model"));
  int norms = 0;
  for (const Instruction& instruction : local.instructions)
    norms += instruction.is(ops::kLayerNorm) || instruction.is(ops::kLayerNormGrad);
  EXPECT_EQ(norms, 2);
}

}  // namespace
}  // namespace tessera::testing
