// Every op of the table on dims that their axes do not divide: garbage in all padding, what its
// transfer claims checked, and the result that of the whole op.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "core/ops/op_list.h"
#include "core/ops/padding.h"
#include "core/runtime/sharded_interpreter.h"
#include "partitioner/check_shardings.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/localize.h"
#include "partitioner/mask_padding.h"
#include "partitioner/op_layout.h"
#include "partitioner/pad_dims.h"
#include "partitioner/reshards_to_collectives.h"
#include "tests/ops/sample_inputs.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

// What the operands' padding holds before the op: by mask, or as stored (zero), or garbage.
enum class Planted { garbage, zero, one, max_identity };

struct PaddedCase {
  const OpDef& op;
  const OpSample& sample;
  MeshPtr mesh;
  FactorAxes axes;
  Planted planted = Planted::garbage;
};

// The op on operands that lie as the factor axes demand.
Graph graph_of(const PaddedCase& c) {
  Graph graph;
  graph.mesh = c.mesh;
  Builder builder(graph);
  const OpCall call{c.sample.operands, c.sample.attributes};
  const FactorRule rule = factor_rule(c.op, call, infer_types(c.op, call));
  std::vector<Value> operands;
  for (size_t o = 0; o < c.sample.operands.size(); ++o) {
    const TensorType& type = c.sample.operands[o];
    const auto kind = c.planted == Planted::zero ? InputKind::parameter : InputKind::data;
    Value value = builder.input(kind, cat("x", o), type);
    Sharding sharding = unproject(c.mesh, rule.operands[o], c.axes);
    graph.info(value).sharding = sharding;
    Ints dims, limits;
    for (int d = 0; d < type.rank(); ++d)
      if (type.shape[d] > 1 && !sharding.dims[static_cast<size_t>(d)].axes.empty()) {
        dims.push_back(d);
        limits.push_back(type.shape[d]);
      }
    const PadContent content =
        c.planted == Planted::one ? PadContent::one : PadContent::max_identity;
    const auto number = number_of(content, type.dtype);
    if (c.planted > Planted::zero && !dims.empty() && number) {
      value = ops::mask_padding(builder, value, dims, limits, *number);
      graph.info(value).sharding = sharding;
      for (const DimSharding& dim : sharding.dims)
        graph.at(value).factor_axes.push_back(dim.axes);
    }
    operands.push_back(value);
  }
  const Value made = builder.emit(c.op, operands, c.sample.attributes);
  Instruction& instruction = graph.at(made);
  instruction.factor_axes = c.axes;
  for (size_t r = 0; r < instruction.results.size(); ++r) {
    instruction.results[r].sharding = unproject(c.mesh, rule.results[r], c.axes);
    builder.output({made.instruction, static_cast<int>(r)}, cat("y", r));
  }
  return insert_reshards(graph);
}

// "" or the stage at which the results differ.
std::string check(const PaddedCase& c, std::mt19937_64& rng) {
  const std::vector<HostTensor> inputs = random_operands(c.sample, rng);
  const std::vector<HostTensor> expected = evaluate(c.op, c.sample.attributes, inputs);
  auto tolerance_of = [](DType dtype) {
    const bool is_exact = dtype == DType::f64 || (!is_float(dtype) && dtype != DType::c64);
    return is_exact ? 1e-11 : size_of(dtype) >= 4 ? 1e-5 : 0.07;
  };
  Graph graph;
  std::string stage;
  auto differs = [&](std::string_view name) {
    stage = name;
    const std::vector<HostTensor> results = interpret_sharded(graph, inputs);
    for (size_t r = 0; r < results.size(); ++r)
      if (const double error = max_relative_error(results[r], expected[r], 1.0);
          error > tolerance_of(expected[r].dtype()))
        return cat("result ", r, " differs by ", error, "\n", print_graph(graph));
    return std::string();
  };
  try {
    graph = graph_of(c);
    if (std::string text = differs("insert_reshards"); !text.empty()) return cat(stage, ": ", text);
    ReshardPlanner planner(c.mesh, machine_model("cpu-shm"));
    graph = pad_dims(graph, planner);
    check_shardings(graph);
    if (std::string text = differs("pad_dims"); !text.empty()) return cat(stage, ": ", text);
    graph = reshards_to_collectives(graph, planner);
    check_shardings(graph);
    if (std::string text = differs("reshards_to_collectives"); !text.empty())
      return cat(stage, ": ", text);
    graph = mask_padding(graph);
    check_shardings(graph);
    if (std::string text = differs("mask_padding"); !text.empty()) return cat(stage, ": ", text);
    graph = localize(graph);
    if (std::string text = differs("localize"); !text.empty()) return cat(stage, ": ", text);
  } catch (const std::exception& error) {
    return cat("after ", stage, ": ", error.what(), "\n", print_graph(graph));
  }
  return "";
}

bool is_special(const OpDef& op) {
  // Exchanges have no factors of their own; regions and states are tested elsewhere.
  if (op.communicates || op.device_dependent || op.has_state) return true;
  static const std::set<std::string_view> kOther = {"reshard", "resize_padding", "while", "case",
                                                    "call", "manual_computation", "custom_call"};
  return kOther.count(op.name) > 0;
}

// Calls with every op, sample and legal choice of one or two factors over the axes of `mesh`.
template <typename Body>
void for_each_choice(const MeshPtr& mesh, const Body& body) {
  for (const OpDef* op : all_ops()) {
    if (is_special(*op)) continue;
    for (const OpSample& sample : op->samples()) {
      const OpCall call{sample.operands, sample.attributes};
      OpRules rules;
      rules.factors = factor_rule(*op, call, infer_types(*op, call));
      rules.linear = linear_sets(*op, call);
      rules.has_partition = op->partition != nullptr;
      const size_t factors = rules.factors.factors.size();
      for (size_t f = 0; f < factors; ++f)
        for (size_t g = f; g < factors; ++g) {
          FactorAxes axes(factors);
          axes[f] = {mesh->axis(0)};
          if (g != f && mesh->rank() < 2) continue;
          if (g != f) axes[g] = {mesh->axis(1)};
          if (is_legal(rules, axes)) body(*op, sample, axes);
        }
    }
  }
}

void check_all(const std::string& mesh_text, Planted planted) {
  std::mt19937_64 rng(7);
  const MeshPtr mesh = mesh_of(mesh_text);
  int checked = 0;
  for_each_choice(mesh, [&](const OpDef& op, const OpSample& sample, const FactorAxes& axes) {
    ++checked;
    const std::string failure = check({op, sample, mesh, axes, planted}, rng);
    if (!failure.empty()) ADD_FAILURE() << op.name << " on " << mesh_text << ": " << failure;
  });
  EXPECT_GT(checked, 100);
}

TEST(PaddedOps, ThreeDevices) { check_all("a=3", Planted::garbage); }
TEST(PaddedOps, FiveDevicesMoreThanMostDims) { check_all("a=5", Planted::garbage); }
TEST(PaddedOps, TwoAxes) { check_all("a=3,b=2", Planted::garbage); }
TEST(PaddedOps, ClaimsOnStoredTensors) { check_all("a=3,b=2", Planted::zero); }
TEST(PaddedOps, ClaimsOnOnes) { check_all("a=3,b=2", Planted::one); }
TEST(PaddedOps, ClaimsOnInfinities) { check_all("a=3,b=2", Planted::max_identity); }

}  // namespace
}  // namespace tessera::testing
