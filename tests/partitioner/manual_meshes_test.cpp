// Manual computations over another mesh than the program's: as many coordinates, which other devices
// stand for.
#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "core/ir/text.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/op_list.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct ManualMeshProgram : MeshProgram {
  explicit ManualMeshProgram(const char* home) : MeshProgram(home, DType::f64) {}

  TensorType type(Shape shape) const { return {DType::f64, std::move(shape)}; }

  std::string collectives() const {
    PartitionOptions options;
    options.bucket_bytes = 0;
    PartitionReport report;
    partition(graph, mesh, {}, options, &report);
    return collectives_of(report);
  }
  // By the interpreter after every pass, and on threads with real messages.
  std::string check() const {
    const std::string failure = check_every_pass(graph, mesh, {});
    return failure.empty() ? check_on_threads(graph, mesh, random_inputs(graph, 5), 1e-10)
                           : failure;
  }
  std::string refusal() const {
    try {
      partition(graph, mesh, {});
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }
};

// An op whose result has another local shape says which.
Value stated(Builder& b, const OpDef& op, Value x, Attributes attributes, Ints shape) {
  attributes.set(Attr::shape, std::move(shape));
  return b.emit(op, {x}, std::move(attributes));
}

// Each coordinate along x of `over` has 16 / size rows: passes them on in a ring, adds up all columns,
// counts in its number, and turns rows into columns and back.
void add_ring(ManualMeshProgram& p, const MeshPtr& over, const char* outside) {
  const AxisList x = {over->axis("x")};
  const int64_t parts = size_of(x), rows = 16 / parts;
  const GraphRef body = region(over, {p.type({rows, 8})}, [&](Builder& b, std::vector<Value> v) {
    const Value passed = ops::shift(b, ops::tanh(b, v[0]), x, 1, true);
    const Value sum = ops::all_reduce(b, ops::reduce(b, passed, {0}), x);
    const Value place = ops::convert(b, ops::axis_index(b, x), DType::f64);
    const Value counted = ops::add(
        b, passed, ops::add(b, ops::broadcast_in_dim(b, sum, {rows, 8}, {1}),
                            ops::broadcast_scalar(b, place, {rows, 8})));
    const Value turned = stated(b, ops::kAllToAll, counted,
                                {{Attr::split_dimension, int64_t{1}},
                                 {Attr::concat_dimension, int64_t{0}},
                                 {Attr::axes, x}},
                                {16, 8 / parts});
    const Value back = stated(b, ops::kAllToAll, ops::sine(b, turned),
                              {{Attr::split_dimension, int64_t{0}},
                               {Attr::concat_dimension, int64_t{1}},
                               {Attr::axes, x}},
                              {rows, 8});
    Ints sources(static_cast<size_t>(parts), -1);  // the first gets nothing, the others turned round
    for (size_t c = 1; c < sources.size(); ++c) sources[c] = parts - 1 - static_cast<int64_t>(c);
    return std::vector{ops::add(b, back, ops::collective_permute_from(b, counted, x, sources)), sum};
  });
  const auto made = ops::manual_computation(p.b, body, {p.input("x", {16, 8}, outside)}, x,
                                            {parse_sharding(over, "[{x, ?}, {?}]")},
                                            {parse_sharding(over, "[{x, ?}, {?}]"),
                                             parse_sharding(over, "[{?}]")});
  p.output(made[0], outside);
  p.output(made[1]);
}

TEST(ManualMeshes, OtherAxesAndOrders) {
  struct Meshes {
    const char *home, *over;
  };
  for (const auto& [home, over] :
       {Meshes{"a=2,b=2", "<x=4>"}, Meshes{"a=4", "<x=2, y=2>"}, Meshes{"a=4", "<y=2, x=2>"},
        Meshes{"a=2,b=2", "<x=2, y=2, device_order=[0,2,1,3]>"},
        Meshes{"a=2,b=2", "<x=4, device_order=[3,0,2,1]>"}, Meshes{"a=2,b=4", "<x=4, y=2>"},
        Meshes{"a=8", "<y=2, x=2, z=2>"}, Meshes{"a=2,b=3", "<y=3, x=2, device_order=[5,1,0,3,2,4]>"}})
    for (const char* outside : {"[{}, {}]", "[{a}, {}]", "[{}, {a}]"}) {
      ManualMeshProgram p(home);
      add_ring(p, mesh_of(over), outside);
      EXPECT_EQ(p.check(), "") << home << " " << over << " " << outside;
    }
}

// The axes of the other mesh are those of the program's along which the devices stand where they did.
TEST(ManualMeshes, WhatIsTheSameUnderAnotherNameDoesNotMove) {
  ManualMeshProgram p("a=2,b=2");
  const MeshPtr over = mesh_of("<x=4>");
  const GraphRef body = region(over, {p.type({4, 8})}, [&](Builder& b, std::vector<Value> v) {
    return std::vector{ops::shift(b, v[0], {over->axis("x")}, 1, true)};
  });
  const Sharding rows = parse_sharding(over, "[{x}, {}]");
  const Value x = p.input("x", {16, 8}, "[{a,b}, {}]");
  p.output(ops::manual_computation(p.b, body, {x}, {over->axis("x")}, {rows}, {rows})[0],
           "[{a,b}, {}]");
  EXPECT_EQ(p.collectives(), "shift{a,b} x1 256 B");
}

TEST(ManualMeshes, NestedOverOneMesh) {
  for (const char* over_text : {"<x=2, y=2, z=2>", "<z=2, y=2, x=2, device_order=[7,1,2,4,3,5,6,0]>"}) {
    ManualMeshProgram p("a=8");
    const MeshPtr over = mesh_of(over_text);
    const AxisList x = {over->axis("x")}, y = {over->axis("y")};
    auto lying = [&](const char* text) { return parse_sharding(over, text); };
    const GraphRef inner = region(over, {p.type({4, 5})}, [&](Builder& b, std::vector<Value> v) {
      const Value sum = ops::all_reduce(b, ops::reduce(b, v[0], {1}), y);
      return std::vector{ops::add(b, v[0], ops::broadcast_in_dim(b, sum, {4, 5}, {0}))};
    });
    const GraphRef outer = region(over, {p.type({4, 10})}, [&](Builder& b, std::vector<Value> v) {
      const Value made = ops::manual_computation(b, inner, {ops::sine(b, v[0])}, y,
                                                 {lying("[{z}, {y}]")}, {lying("[{?}, {y, ?}]")})[0];
      return std::vector{ops::shift(b, made, x, 1, true)};
    });
    const Value in = p.input("in", {8, 10}, "[{}, {}]");
    p.output(ops::manual_computation(p.b, outer, {in}, x, {lying("[{x, ?}, {?}]")},
                                     {lying("[{x, ?}, {?}]")})[0]);
    EXPECT_EQ(p.check(), "") << over_text;
  }
}

// Collectives in the body of a loop are over the mesh of the computation around it.
TEST(ManualMeshes, ALoopInside) {
  ManualMeshProgram p("a=2,b=2");
  const MeshPtr over = mesh_of("<x=2, y=2, device_order=[3,1,2,0]>");
  const AxisList y = {over->axis("y")};
  const TensorType carried = p.type({4, 5}), counter{DType::s32, {}};
  const GraphRef body = region(over, {carried, counter}, [&](Builder& b, std::vector<Value> v) {
    const Value passed = ops::shift(b, ops::tanh(b, v[0]), y, 1, true);
    return std::vector{ops::add(b, passed, v[0]),
                       ops::add(b, v[1], ops::constant(b, 1.0, counter))};
  });
  const GraphRef more = region(over, {carried, counter}, [&](Builder& b, std::vector<Value> v) {
    return std::vector{ops::compare(b, v[1], ops::constant(b, 3.0, counter), CompareDirection::lt)};
  });
  const GraphRef callee = region(over, {carried}, [&](Builder& b, std::vector<Value> v) {
    return std::vector{
        ops::while_loop(b, {v[0], ops::constant(b, 0.0, counter)}, more, body, 3)[0]};
  });
  const Sharding rows = parse_sharding(over, "[{y}, {?}]");
  const Value x = p.input("x", {8, 5}, "[{a}, {b}]");
  p.output(ops::manual_computation(p.b, callee, {x}, y, {rows}, {rows})[0]);
  EXPECT_EQ(p.check(), "");
}

TEST(ManualMeshes, TwoMeshesAndTheProgramsOwn) {
  ManualMeshProgram p("a=2,b=2");
  Value value = p.input("in", {8, 8}, "[{a}, {b}]");
  for (const auto& [text, name] : {std::pair{"<x=4>", "x"}, std::pair{"<u=2, v=2, device_order=[0,3,1,2]>", "v"},
                                   std::pair{"<a=2, b=2>", "b"}}) {
    const MeshPtr over = mesh_of(text);
    const AxisList axes = {over->axis(name)};
    const int64_t rows = 8 / size_of(axes);
    const GraphRef body = region(over, {p.type({rows, 8})}, [&](Builder& b, std::vector<Value> v) {
      return std::vector{ops::shift(b, ops::tanh(b, v[0]), axes, 1, false)};
    });
    Sharding lying(over, 2, true);
    lying.dims[0].axes = axes;
    value = ops::add(p.b, value,
                     ops::manual_computation(p.b, body, {value}, axes, {lying}, {lying})[0]);
  }
  p.output(value, "[{x}, {}] on <x=4, device_order=[2,1,0,3]>");
  EXPECT_EQ(p.check(), "");
}

TEST(ManualMeshes, Gradients) {
  ManualMeshProgram p("a=2,b=2");
  const MeshPtr over = mesh_of("<x=4, device_order=[0,2,1,3]>");
  const AxisList x = {over->axis("x")};
  const GraphRef body =
      region(over, {p.type({2, 3}), p.type({3})}, [&](Builder& b, std::vector<Value> v) {
        const Value scaled =
            ops::multiply(b, ops::tanh(b, v[0]), ops::broadcast_in_dim(b, v[1], {2, 3}, {1}));
        const Value sum = stated(b, ops::kAllReduce, ops::reduce(b, scaled, {0}),
                                 {{Attr::axes, x}, {Attr::reduce_kind, ReduceKind::sum}}, {3});
        return std::vector{ops::add(b, ops::shift(b, scaled, x, 1, true),
                                    ops::broadcast_in_dim(b, sum, {2, 3}, {1}))};
      });
  const Sharding rows = parse_sharding(over, "[{x}, {}]"), whole = parse_sharding(over, "[{}]");
  const Value in = p.input("in", {8, 3}, "[{a}, {}]"),
              w = p.input("w", {3}, "[{}]", InputKind::parameter);
  const Value made = ops::manual_computation(p.b, body, {in, w}, x, {rows, whole}, {rows})[0];
  const Value loss = ops::reduce_all(p.b, ops::multiply(p.b, made, made));
  const std::vector<Value> grads = gradients(p.b, loss, std::vector{in, w});
  p.output(loss);
  for (Value grad : grads) p.output(grad);
  EXPECT_EQ(p.check(), "");
}

// All that a graph says is over one mesh, which is not the one that it is partitioned for.
TEST(ManualMeshes, AProgramOverAnotherMesh) {
  ManualMeshProgram p("x=4");
  add_ring(p, p.mesh, "[{x}, {}]");
  EXPECT_EQ(check_every_pass(p.graph, mesh_of("a=2,b=2"), {}), "");
}

TEST(ManualMeshes, TextIsReadAgain) {
  ManualMeshProgram p("a=2,b=2");
  add_ring(p, mesh_of("<x=2, y=2, device_order=[0,2,1,3]>"), "[{a}, {}]");
  const std::string text = print_graph(p.graph);
  EXPECT_NE(text.find("mesh <x=2, y=2, device_order=[0,2,1,3]>"), std::string::npos) << text;
  EXPECT_EQ(print_graph(parse_graph(text, all_ops())), text);
}

void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << part << "\nnot in: " << message;
}

TEST(ManualMeshes, AnotherNumberOfDevicesIsRefused) {
  ManualMeshProgram p("a=2,b=2");
  p.input("first", {4}, "[{}]");
  add_ring(p, mesh_of("<x=8>"), "[{}, {}]");
  expect_parts(p.refusal(), {"manual_computation %2", "is over mesh <x=8> of 8 devices",
                             "partitioned for <a=2, b=2> of 4", "give it a mesh of 4 devices",
                             "partition the program for 8"});
}

TEST(ManualMeshes, NestedOverTwoMeshesIsRefused) {
  ManualMeshProgram p("a=2,b=2");
  const MeshPtr over = mesh_of("<x=2, y=2>");
  const AxisList x = {over->axis("x")}, b_axis = {p.mesh->axis("b")};
  const Sharding inside = parse_sharding(p.mesh, "[{b}]"), outside = parse_sharding(over, "[{x}]");
  const GraphRef inner = region(p.mesh, {p.type({2})}, [&](Builder& b, std::vector<Value> v) {
    return std::vector{ops::all_reduce(b, v[0], b_axis)};
  });
  const GraphRef outer = region(over, {p.type({4})}, [&](Builder& b, std::vector<Value> v) {
    return ops::manual_computation(b, inner, {v[0]}, b_axis, {inside}, {inside});
  });
  const Value in = p.input("in", {8}, "[{}]");
  p.output(ops::manual_computation(p.b, outer, {in}, x, {outside}, {outside})[0]);
  expect_parts(p.refusal(), {"manual_computation %1 of %1.callee", "is over mesh <a=2, b=2>",
                             "around it is over <x=2, y=2>", "write both over one"});
}

TEST(ManualMeshes, ACalleeOverAnotherMeshThanItsBoundaryIsRefused) {
  ManualMeshProgram p("a=2,b=2");
  const MeshPtr over = mesh_of("<x=4>");
  const GraphRef body = region(p.mesh, {p.type({4})}, [&](Builder& b, std::vector<Value> v) {
    return std::vector{ops::tanh(b, v[0])};
  });
  const Value in = p.input("in", {8}, "[{}]");
  const Sharding lying = parse_sharding(over, "[{x:(1)2}]");
  p.output(ops::manual_computation(p.b, body, {in}, {{0, 1, 2}}, {lying}, {lying})[0]);
  expect_parts(p.refusal(), {"manual_computation %1", "callee is over mesh <a=2, b=2>",
                             "in_shardings has [{x:(1)2}] on <x=4>", "write both over one"});
}

}  // namespace
}  // namespace tessera::testing
