// Ops that exchange halos, on every cut of their factors: even, uneven, and with more devices than
// elements, against the op on whole tensors.
#include <gtest/gtest.h>

#include "core/ops/halo.h"
#include "core/ops/op_list.h"
#include "core/ops/structure.h"
#include "tests/ops/partition_harness.h"

namespace tessera {
namespace {

using testing::check_all_partitions;
using testing::check_partition;
using testing::line_mesh;
using testing::random_operands;

TEST(Halo, EverySampleOnEveryCut) {
  std::mt19937_64 rng(20261121);
  for (const char* name : {"slice", "pad", "concatenate", "reverse", "rotate", "convolution",
                           "convolution_kernel_grad", "reduce_window", "select_and_scatter", "scan",
                           "log_sum_exp_scan", "linear_recurrence"}) {
    const OpDef* op = find_op(name);
    ASSERT_NE(op, nullptr) << name;
    int run = 0;
    for (const OpSample& sample : op->samples()) {
      std::string failures;
      run += check_all_partitions(*op, sample.attributes, random_operands(sample, rng), failures);
      EXPECT_EQ(failures, "");
    }
    EXPECT_GT(run, 10) << name << " is hardly ever cut";
  }
}

// What an op sends when its one permutation factor is cut over 4 devices: "shift 48 B" per
// instruction; and that its estimate says the same.
std::string exchanges_of(const OpDef& op, const OpSample& sample) {
  std::mt19937_64 rng(1);
  const MeshPtr mesh = line_mesh(4);
  const OpCall call{sample.operands, sample.attributes};
  const std::vector<TensorType> results = infer_types(op, call);
  const FactorRule rule = factor_rule(op, call, results);
  std::vector<AxisList> axes(rule.factors.size());
  for (size_t f = 0; f < axes.size(); ++f)
    if (rule.factors[f].kind == FactorKind::permutation) axes[f] = {mesh->axis("a")};
  EXPECT_EQ(check_partition(op, sample.attributes, random_operands(sample, rng), mesh, axes), "");
  testing::FakePartition context(op, call, mesh, axes, 0);
  op.partition(context);
  std::vector<std::string> sent;
  double bytes = 0;
  for (const Instruction& instruction : context.graph.instructions) {
    if (!instruction.op->communicates) continue;
    sent.push_back(cat(instruction.op->name, " ", instruction.results[0].type.bytes(), " B"));
    bytes += static_cast<double>(instruction.results[0].type.bytes());
  }
  EXPECT_EQ(op.exchange_bytes(call, results, axes), bytes) << op.name;
  return join(sent, ", ");
}

TEST(Halo, SendsOnlyWhatIsNeeded) {
  const TensorType x{DType::f64, {16, 3}};
  EXPECT_EQ(
      exchanges_of(ops::kRotate, {{x}, {{Attr::dimension, int64_t{0}}, {Attr::shift, int64_t{2}}}}),
      "shift 48 B");
  // A whole shard and half of the next one.
  EXPECT_EQ(
      exchanges_of(ops::kRotate, {{x}, {{Attr::dimension, int64_t{0}}, {Attr::shift, int64_t{6}}}}),
      "shift 48 B, shift 48 B");
  // Down by one row: the last row of each shard.
  EXPECT_EQ(exchanges_of(ops::kPad, {{x, {DType::f64, {}}},
                                     {{Attr::edge_low, Ints{1, 0}},
                                      {Attr::edge_high, Ints{-1, 0}},
                                      {Attr::interior, Ints{0, 0}}}}),
            "shift 24 B");
  // 17 rows over 4 devices are 5, 5, 5 and 2; the 16 behind the first are 4 each: windows drift.
  EXPECT_EQ(exchanges_of(ops::kSlice, {{{DType::f64, {17, 3}}},
                                       {{Attr::start_indices, Ints{1, 0}},
                                        {Attr::limit_indices, Ints{17, 3}},
                                        {Attr::strides, Ints{1, 1}}}}),
            "shift 48 B");
  EXPECT_EQ(exchanges_of(ops::kReverse, {{x}, {{Attr::dimensions, Ints{0}}}}),
            "collective_permute 96 B");
  // 1, then 1 and 2 places: one row each.
  EXPECT_EQ(
      exchanges_of(*find_op("scan"),
                   {{x}, {{Attr::dimension, int64_t{0}}, {Attr::reduce_kind, ReduceKind::sum}}}),
      "shift 24 B, shift 24 B, shift 24 B");
}

TEST(Halo, ConvolutionOverSpaceSendsTheRowsThatWindowsReach) {
  const OpDef& op = *find_op("convolution");
  Attributes attributes = op.samples()[0].attributes;  // "same" padding, kernel 3
  const OpSample sample{{{DType::f64, {1, 16, 2}}, {DType::f64, {3, 2, 2}}}, attributes};
  EXPECT_EQ(exchanges_of(op, sample), "shift 16 B, shift 16 B");
}

// Any window of any line: wider than a shard, before and behind it, drifting, with a divisor.
TEST(Halo, AnyWindow) {
  std::mt19937_64 rng(7);
  auto pick = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1));
  };
  for (int round = 0; round < 400; ++round) {
    const int64_t parts = pick(1, 5), shard = pick(1, 4), size = pick(1, parts * shard);
    const ops::HaloWindow window{{pick(-3, 6), pick(-9, 12), pick(1, 3)}, pick(1, 9)};
    const int kind = static_cast<int>(rng() % 3);
    Graph graph;
    graph.mesh = std::make_shared<const Mesh>(std::vector<MeshAxis>{{"x", parts}});
    graph.is_local = true;
    Builder b(graph);
    const Value x = b.input(InputKind::data, "x", {DType::f64, {shard, 2}});
    Sharding lying(graph.mesh, 2);
    lying.dims[0].axes = {graph.mesh->axis(0)};
    graph.info(x).sharding = lying;
    const ops::CutDim cut{0, size, shard, lying.dims[0].axes};
    ops::HaloFill fill{static_cast<ops::HaloFill::Kind>(kind), {}};
    if (fill.kind == ops::HaloFill::Kind::value)
      fill.scalar = ops::constant(b, -7.0, {DType::f64, {}});
    // As a result of 2 more dims than it has, so that its rows of all devices lie side by side.
    const Value y = ops::halo_window(b, x, cut, window, fill);
    graph.info(y).sharding = lying;
    b.output(y, "y");
    HostTensor whole = HostTensor::filled({DType::f64, {parts * shard, 2}}, NAN);
    for (int64_t i = 0; i < size * 2; ++i) whole.set_real(i, static_cast<double>(i + 1));
    const HostTensor made = interpret_sharded(graph, std::vector<HostTensor>{whole})[0];
    for (int64_t c = 0; c < parts; ++c)
      for (int64_t i = 0; i < window.length; ++i) {
        const int64_t at = window.start.at(c) + i;
        const double got = made.get_real((c * window.length + i) * 2 + 1);
        const bool is_inside = at >= 0 && at < size;
        if (!is_inside && kind == 0) continue;
        const double expected =
            is_inside ? static_cast<double>(at * 2 + 2) : (kind == 1 ? 0.0 : -7.0);
        ASSERT_EQ(got, expected) << "position " << at << " of " << size << " on device " << c
                                 << " of " << parts << ", shards of " << shard << ", window "
                                 << window.start.scale << "c+" << window.start.offset << " by "
                                 << window.start.divisor << " length " << window.length;
      }
  }
}

}  // namespace
}  // namespace tessera
