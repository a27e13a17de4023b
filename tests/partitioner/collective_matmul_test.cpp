#include "partitioner/collective_matmul.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/runtime/sharded_interpreter.h"
#include "models/training_step.h"
#include "partitioner/check_shardings.h"
#include "partitioner/localize.h"
#include "partitioner/op_layout.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct Product {
  const char* name;
  Shape lhs, rhs;
  ops::DotDims dims;
  const char *lhs_sharding, *rhs_sharding, *result_sharding;  // "" leaves the result alone
  const char* cut;                                            // the collective that becomes a ring
};

// Sharded over x; the other operand is whole, or cut along what is contracted.
const Product kProducts[] = {
    {"gathered rows", {16, 8}, {8, 8}, {{1}, {0}}, "[{x}, {}]", "[{}, {}]", "[{}, {}]",
     "all_gather"},
    {"gathered columns", {8, 8}, {8, 16}, {{1}, {0}}, "[{}, {}]", "[{}, {x}]", "[{}, {}]",
     "all_gather"},
    {"gathered batch", {16, 4, 8}, {16, 8, 4}, {{2}, {1}, {0}, {0}}, "[{x}, {}, {}]",
     "[{}, {}, {}]", "[{}, {}, {}]", "all_gather"},
    {"rows behind another free dim", {4, 16, 8}, {8, 8}, {{2}, {0}}, "[{}, {x}, {}]", "[{}, {}]",
     "[{}, {}, {}]", "all_gather"},
    {"scattered rows", {16, 32}, {32, 8}, {{1}, {0}}, "[{}, {x}]", "[{x}, {}]", "[{x}, {}]",
     "reduce_scatter"},
    {"scattered columns", {8, 32}, {32, 16}, {{1}, {0}}, "[{}, {x}]", "[{x}, {}]", "[{}, {x}]",
     "reduce_scatter"},
    {"scattered second free dim", {4, 16, 32}, {32, 8}, {{2}, {0}}, "[{}, {}, {x}]", "[{x}, {}]",
     "[{}, {x}, {}]", "reduce_scatter"},
};

// Gives a new value the lying that its operands' lyings make of it.
Value laid(Graph& graph, Value value) {
  Instruction& op = graph.at(value);
  const OpRules rules = op_rules(graph, op);
  op.factor_axes.resize(rules.factors.factors.size());
  for (size_t o = 0; o < op.operands.size(); ++o) {
    const FactorAxes axes =
        project(rules.factors, rules.factors.operands[o], graph.sharding(op.operands[o]));
    for (size_t f = 0; f < axes.size(); ++f)
      if (!axes[f].empty()) op.factor_axes[f] = axes[f];
  }
  op.results[0].sharding = op_layout(graph, op, rules).results[0];
  return value;
}
Value lies(Graph& graph, Value value, const Sharding& sharding) {
  graph.info(value).sharding = sharding;
  return value;
}
// Brought together from its shards along x.
Value gathered(Builder& b, Value value) {
  const Sharding& sharding = b.graph().sharding(value);
  for (size_t d = 0; d < sharding.dims.size(); ++d)
    if (!sharding.dims[d].axes.empty())
      return lies(b.graph(),
                  ops::all_gather(b, value, static_cast<int64_t>(d), sharding.dims[d].axes),
                  Sharding(sharding.mesh, static_cast<int>(sharding.dims.size())));
  return value;
}

// The product with `cut` in front of it or behind it, before localize.
Graph product_with_collective(const Product& product, const MeshPtr& mesh,
                              DType dtype = DType::f64) {
  Graph graph;
  graph.mesh = mesh;
  Builder b(graph);
  auto in = [&](const char* name, const Shape& shape, const char* sharding) {
    return lies(graph, b.input(InputKind::data, name, {dtype, shape}),
                parse_sharding(mesh, sharding));
  };
  Value lhs = in("lhs", product.lhs, product.lhs_sharding),
        rhs = in("rhs", product.rhs, product.rhs_sharding);
  const bool gathers = std::string_view(product.cut) == "all_gather";
  if (gathers) lhs = gathered(b, lhs), rhs = gathered(b, rhs);
  Value result = laid(graph, ops::dot_general(b, lhs, rhs, product.dims));
  const Sharding wanted = parse_sharding(mesh, product.result_sharding);
  for (size_t d = 0; !gathers && d < wanted.dims.size(); ++d)
    if (!wanted.dims[d].axes.empty())
      result = lies(graph,
                    ops::reduce_scatter(b, result, static_cast<int64_t>(d), wanted.dims[d].axes),
                    wanted);
  b.output(result, "y");
  graph.outputs[0].sharding = wanted;
  check_shardings(graph);
  return graph;
}

int64_t count_of(const Graph& graph, const OpDef& op) {
  return std::count_if(graph.instructions.begin(), graph.instructions.end(),
                       [&](const Instruction& instruction) { return instruction.is(op); });
}

Graph rings_of(const Graph& local, RingDirections directions) {
  return collective_matmul(local, {.directions = directions, .only_where_it_pays = false});
}

TEST(CollectiveMatmul, EveryProductOnRingsOfAllSizes) {
  for (const Product& product : kProducts)
    for (const char* mesh_text : {"x=2", "x=4", "x=8", "x=2,y=2"})
      for (RingDirections directions : {RingDirections::one_way, RingDirections::two_way}) {
        const MeshPtr mesh = mesh_of(mesh_text);
        const int64_t n = mesh->axes()[0].size;
        const Graph graph = product_with_collective(product, mesh);
        const std::vector<HostTensor> inputs = random_inputs(graph, 11);
        const Graph ring = rings_of(localize(graph), directions);
        EXPECT_EQ(count_of(ring, ops::kAllGather) + count_of(ring, ops::kReduceScatter), 0);
        const bool is_halved = directions == RingDirections::two_way && 16 / n % 2 == 0 &&
                               product.cut == std::string_view("reduce_scatter");
        EXPECT_EQ(count_of(ring, ops::kShift), is_halved ? 2 * (n - 1) : n - 1)
            << product.name << " " << mesh_text;
        const HostTensor expected = interpret(graph, inputs)[0];
        EXPECT_LE(error_between(expected, interpret_sharded(ring, inputs)[0]), 1e-12)
            << product.name << " " << mesh_text;
      }
}

// q, k and v share one ring; a gather that something else reads stays.
TEST(CollectiveMatmul, OneRingForAllProductsOfAGather) {
  const MeshPtr mesh = mesh_of("x=4");
  for (bool is_read_elsewhere : {false, true}) {
    Graph graph;
    graph.mesh = mesh;
    Builder b(graph);
    const Value x = lies(graph, b.input(InputKind::data, "x", {DType::f64, {16, 8}}),
                         parse_sharding(mesh, "[{x}, {}]"));
    const Value whole = gathered(b, x);
    for (int i = 0; i < 3; ++i) {
      const Value w = lies(graph, b.input(InputKind::data, cat("w", i), {DType::f64, {8, 4}}),
                           Sharding(mesh, 2));
      b.output(laid(graph, ops::matmul(b, whole, w)), cat("y", i));
      graph.outputs.back().sharding = Sharding(mesh, 2);
    }
    if (is_read_elsewhere) {
      b.output(laid(graph, ops::tanh(b, whole)), "t");
      graph.outputs.back().sharding = Sharding(mesh, 2);
    }
    const Graph ring = rings_of(localize(graph), RingDirections::one_way);
    EXPECT_EQ(count_of(ring, ops::kShift), is_read_elsewhere ? 0 : 3);
    const std::vector<HostTensor> inputs = random_inputs(graph, 11);
    const auto expected = interpret(graph, inputs), found = interpret_sharded(ring, inputs);
    for (size_t o = 0; o < expected.size(); ++o)
      EXPECT_LE(error_between(expected[o], found[o]), 1e-12);
  }
}

// A whole training step under tensor and sequence parallelism, rings wherever they can be.
TEST(CollectiveMatmul, ADecoderStepIsTheSame) {
  models::StepConfig config;
  config.model = {.family = models::Family::llama, .layers = 1, .embed = 16, .heads = 4,
                  .kv_heads = 4, .head_dim = 4, .mlp = 32, .vocab = 13, .padded_vocab = 16,
                  .context = 16, .tied_embeddings = false};
  config.compute = DType::f64;
  config.batch = 4;
  config.length = 8;
  const Graph graph = models::build_step(config, false);
  const char* tensor = "heads=model kv_heads=model mlp=model vocab=model";
  const MeshPtr mesh = mesh_of("data=2,model=4");
  PartitionOptions options;
  options.machine.flops_f32 = options.machine.memory_bandwidth = 1e9;  // the textbook's layout
  const Graph local = partition(graph, mesh,
                                config_of(tensor, cat("batch=data ", tensor, " length=model")),
                                options);
  const Graph ring = rings_of(local, RingDirections::two_way);
  EXPECT_GT(count_of(ring, ops::kShift), 0);
  const std::vector<HostTensor> inputs = random_inputs(graph, 5);
  const auto expected = interpret(graph, inputs), found = interpret_sharded(ring, inputs);
  for (size_t o = 0; o < expected.size(); ++o)
    EXPECT_LE(error_between(expected[o], found[o]), 1e-10) << graph.outputs[o].name;
}

TEST(CollectiveMatmul, OffByDefaultAndOnlyWhereItPays) {
  const MeshPtr mesh = mesh_of("x=4");
  const Graph small = localize(product_with_collective(kProducts[0], mesh));
  EXPECT_EQ(count_of(collective_matmul(small, {}), ops::kShift), 0);
  CollectiveMatmulOptions gated{.directions = RingDirections::one_way};
  EXPECT_EQ(count_of(collective_matmul(small, gated), ops::kShift), 0);  // latency outweighs it
  const Product large{"", {4096, 4096}, {4096, 4096}, {{1}, {0}}, "[{x}, {}]", "[{}, {}]",
                      "[{}, {}]", "all_gather"};
  const Graph local = localize(product_with_collective(large, mesh, DType::f32));
  EXPECT_EQ(count_of(collective_matmul(local, gated), ops::kShift), 3);
  EXPECT_THROW(ring_directions("both"), ConfigError);
}

// On the simulated machine: the whole collective is exposed where nothing else is there to run
// beside it, and nearly hidden as a ring.
TEST(CollectiveMatmul, ExposesLessCommunication) {
  const Product large[] = {
      {"gather", {4096, 4096}, {4096, 4096}, {{1}, {0}}, "[{x}, {}]", "[{}, {}]", "[{}, {}]",
       "all_gather"},
      {"scatter", {4096, 4096}, {4096, 4096}, {{1}, {0}}, "[{}, {x}]", "[{x}, {}]", "[{x}, {}]",
       "reduce_scatter"},
  };
  const KernelTable kernels;
  CompileOptions options;
  options.cost.links = {{"host", 5e-6, 5e9}};
  options.cost.memory_bytes_per_second = 1e11;
  for (const Product& product : large) {
    const MeshPtr mesh = mesh_of("x=4");
    const Graph local = localize(product_with_collective(product, mesh, DType::f32));
    auto exposed = [&](RingDirections directions) {
      return compile(rings_of(local, directions), kernels, options)
          .schedule.exposed_communication_seconds;
    };
    const double whole = exposed(RingDirections::none), one = exposed(RingDirections::one_way);
    EXPECT_GT(whole, 2e-3) << product.name;
    EXPECT_LT(one, whole / 2) << product.name << " " << one << " of " << whole;
    std::cout << product.name << ": exposed " << whole * 1e3 << " ms, as a ring " << one * 1e3
              << " ms\n";
  }
}

}  // namespace
}  // namespace tessera::testing
