// Manual computations: over some axes only, nested with automatic ops between, with padded dims inside.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct ManualProgram : MeshProgram {
  explicit ManualProgram(const char* mesh_text) : MeshProgram(mesh_text, DType::f64) {}

  Sharding lying(const char* text) const { return parse_sharding(mesh, text); }
  AxisList axis(const char* name) const { return {mesh->axis(name)}; }
  TensorType type(Shape shape) const { return {DType::f64, std::move(shape)}; }
  // After every pass, and on threads with real messages.
  std::string check() const {
    const std::string failure = check_every_pass(graph, mesh, {});
    return failure.empty() ? check_on_threads(graph, mesh, random_inputs(graph, 5), 1e-10)
                           : failure;
  }
};

// data manual { x automatic, model manual { x automatic } }: each level reduces over its own axis.
// `rows` are cut over data, `columns` over model, `inner` (contracted) over x.
void add_nested(ManualProgram& p, int64_t rows, int64_t columns, int64_t inner, const char* x_in,
                const char* x_inside) {
  const Value x = p.input("x", {rows, inner}, x_in), w = p.input("w", {inner, columns}, "[{?}, {?}]");
  const Shape own{rows / 2, columns / 2};
  const GraphRef innermost =
      region(p.mesh, {p.type({rows / 2, columns / 2})}, [&](Builder& b, std::vector<Value> v) {
        const Value y = ops::tanh(b, v[0]);
        const Value sum = ops::reduce(b, y, {1});
        return std::vector{y, ops::all_reduce(b, sum, p.axis("model"))};
      });
  const GraphRef outer = region(
      p.mesh, {p.type({rows / 2, inner}), p.type({inner, columns})},
      [&](Builder& b, std::vector<Value> v) {
        const Value product = ops::matmul(b, ops::sine(b, v[0]), v[1]);
        const auto made = ops::manual_computation(b, innermost, {product}, p.axis("model"),
                                                  {p.lying("[{?}, {model, ?}]")},
                                                  {p.lying("[{?}, {model, ?}]"), p.lying("[{?}]")});
        const Value scaled = ops::multiply(
            b, made[0], ops::broadcast_in_dim(b, made[1], {rows / 2, columns}, {0}));
        return std::vector{scaled, ops::all_reduce(b, ops::reduce(b, scaled, {0}), p.axis("data"))};
      });
  const auto made = ops::manual_computation(p.b, outer, {x, w}, p.axis("data"),
                                            {p.lying(x_inside), p.lying("[{?}, {?}]")},
                                            {p.lying("[{data, ?}, {?}]"), p.lying("[{?}]")});
  p.output(ops::tanh(p.b, made[0]));
  p.output(made[1]);
}

TEST(Manual, InsideAutomaticInsideManual) {
  ManualProgram p("data=2,model=2,x=2");
  add_nested(p, 8, 8, 8, "[{data}, {x}]", "[{data, ?}, {?}]");
  EXPECT_EQ(p.check(), "");
}

// Contracted, kept and reduced dims that the automatic axis does not divide.
TEST(Manual, PaddedDimsInside) {
  for (const auto& [rows, columns, inner] :
       {std::tuple{8, 8, 5}, std::tuple{8, 6, 8}, std::tuple{6, 8, 8}, std::tuple{6, 6, 3}})
    for (const char* inside : {"[{data, ?}, {x}]", "[{data, x}, {?}]", "[{data, ?}, {?}]"}) {
      ManualProgram p("data=2,model=2,x=2");
      add_nested(p, rows, columns, inner, "[{data}, {?}]", inside);
      EXPECT_EQ(p.check(), "") << rows << " " << columns << " " << inner << " " << inside;
    }
}

// Three of a coordinate's rows over two devices: those are not the rows that the whole dim over both
// axes would give them.
TEST(Manual, AFreeAxisThatDoesNotDivideBehindAManualOne) {
  for (const char* outside : {"[{data, x}]", "[{data}]", "[{x}]", "[{}]"})
    for (const char* inside : {"[{data, x}]", "[{data, ?}]"}) {
      ManualProgram p("data=2,x=4");
      const Value x = p.input("x", {12}, outside);
      const GraphRef body = region(p.mesh, {p.type({6})}, [&](Builder& b, std::vector<Value> v) {
        const Value total = ops::reduce(b, ops::exponential(b, v[0]), {0});
        return std::vector{ops::tanh(b, v[0]), ops::all_reduce(b, total, p.axis("data"))};
      });
      const auto made =
          ops::manual_computation(p.b, body, {x}, p.axis("data"), {p.lying(inside)},
                                  {p.lying("[{data, x}]"), p.lying("[]")});
      p.output(made[0], outside);
      p.output(made[1]);
      EXPECT_EQ(p.check(), "") << outside << " " << inside;
    }
}

// What coordinates of a manual axis hold differs: no reshard inside may cut it along that axis, though
// by way of {x, data} the same tiles would be a permute away.
TEST(Manual, ReshardsInsideKeepOffManualAxes) {
  ManualProgram p("data=2,x=2,y=4");
  const Value x = p.input("x", {4096}, "[{data, x}]");
  const GraphRef body = region(p.mesh, {p.type({2048})}, [&](Builder& b, std::vector<Value> v) {
    return std::vector{ops::shift(b, ops::tanh(b, v[0]), p.axis("data"), 1, true)};
  });
  const auto made = ops::manual_computation(p.b, body, {x}, p.axis("data"),
                                            {p.lying("[{data, x}]")}, {p.lying("[{data, y}]")});
  p.output(made[0], "[{data, y}]");
  EXPECT_EQ(p.check(), "");
}

// The body of a loop within, its carried value cut over the free axis.
TEST(Manual, ALoopOfShiftsWithPaddedRows) {
  ManualProgram p("data=2,x=2");
  const Value x = p.input("x", {8, 5}, "[{data}, {x}]");
  const TensorType carried = p.type({4, 5}), counter{DType::s32, {}};
  const GraphRef body = region(p.mesh, {carried, counter}, [&](Builder& b, std::vector<Value> v) {
    const Value passed = ops::shift(b, ops::tanh(b, v[0]), p.axis("data"), 1, true);
    const Value sum = ops::reduce(b, passed, {1});
    return std::vector{ops::add(b, passed, ops::broadcast_in_dim(b, sum, {4, 5}, {0})),
                       ops::add(b, v[1], ops::constant(b, 1.0, counter))};
  });
  const GraphRef more = region(p.mesh, {carried, counter}, [&](Builder& b, std::vector<Value> v) {
    return std::vector{ops::compare(b, v[1], ops::constant(b, 3.0, counter), CompareDirection::lt)};
  });
  const GraphRef callee = region(p.mesh, {carried}, [&](Builder& b, std::vector<Value> v) {
    const Value zero = ops::constant(b, 0.0, counter);
    return std::vector{ops::while_loop(b, {v[0], zero}, more, body)[0]};
  });
  const auto made = ops::manual_computation(p.b, callee, {x}, p.axis("data"),
                                            {p.lying("[{data}, {?}]")}, {p.lying("[{data}, {?}]")});
  p.output(made[0]);
  EXPECT_EQ(p.check(), "");
}

// What a coordinate of a manual axis holds cannot lie along it: by an annotation, over another mesh too,
// or an override. A rule says it of the whole tensor, whose rows the coordinates have already.
TEST(Manual, AnnotationsAlongManualAxes) {
  auto program = [](const char* inside) {
    ManualProgram p("a=2,b=2");
    const GraphRef body = region(p.mesh, {p.type({8})}, [&](Builder& b, std::vector<Value> v) {
      const Value t = b.annotate(ops::tanh(b, v[0]), {"rows"}, "t");
      if (inside) b.graph().info(t).sharding = p.lying(inside);
      return std::vector{ops::shift(b, t, p.axis("a"), 1, true)};
    });
    const Value x = p.input("x", {16}, "[{}]");
    p.output(ops::manual_computation(p.b, body, {x}, p.axis("a"), {p.lying("[{a, ?}]")},
                                     {p.lying("[{a, ?}]")})[0]);
    return std::move(p.graph);
  };
  auto refusal = [](const Graph& graph, const ShardingConfig& config) -> std::string {
    try {
      partition(graph, graph.mesh, config);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "accepted";
  };
  for (const char* inside : {"[{a}]", "[{b,a}]", "[{x}] on <x=4>"}) {
    const std::string message = refusal(program(inside), {});
    EXPECT_NE(message.find("of tanh \"t\" (%1) uses axis"), std::string::npos) << message;
    EXPECT_NE(message.find("is manual in the computation around it"), std::string::npos) << message;
  }
  ShardingConfig overridden;
  overridden.overrides = {{.tensor_regex = "t", .dims = {{"a"}}}};
  const std::string message = refusal(program(nullptr), overridden);
  EXPECT_NE(message.find("\"t\" (%1) by override \"t\" uses axis \"a\""), std::string::npos) << message;
  const Graph graph = program(nullptr);
  for (const char* rule : {"rows=a", "rows=a,b", "rows=b"})
    EXPECT_EQ(check_every_pass(graph, graph.mesh, config_of("", rule)), "") << rule;
  EXPECT_EQ(refusal(program("[{b}]"), {}), "accepted");
}

}  // namespace
}  // namespace tessera::testing
