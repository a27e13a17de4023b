// print -> parse -> print is the identity, and what cannot be read is refused with its line.
#include "core/ir/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/elementwise.h"
#include "core/ops/fusion.h"
#include "core/ops/norm.h"
#include "core/ops/op_list.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

void expect_identity(const Graph& graph) {
  const std::string text = print_graph(graph);
  Graph parsed;
  ASSERT_NO_THROW(parsed = parse_graph(text, all_ops())) << text;
  EXPECT_EQ(print_graph(parsed), text);
}

std::string refusal(std::string_view text) {
  try {
    parse_graph(text, all_ops());
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(accepted)";
}

TEST(Text, EverythingOfAGraphComesBack) {
  Graph graph;
  graph.name = "step";
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2,model=4"));
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {8, 16}}, {"batch", "embed"});
  const Value p = b.input(InputKind::parameter, "block.0/gamma", {DType::f32, {16}}, {""});
  b.push_scope("block.0");
  b.push_scope("norm");
  b.set_recompute(true);
  const Value y = b.annotate(ops::rms_norm(b, x, p, 1e-6).y, {"batch", "embed"}, "normed");
  b.set_recompute(false);
  const AxisList data{graph.mesh->axis("data")};
  const Value z = ops::all_reduce(b, y, data, ReduceKind::max);
  b.output(z, "z");
  b.output(p, "block.0/gamma", 1);
  graph.info(x).sharding =
      parse_sharding(graph.mesh, "[{data}, {model:(1)2, ?}p1] replicated{model:(2)2}");
  graph.info(y).sharding = parse_sharding(graph.mesh, "[{}, {model}] partial{sum: data}");
  graph.at(y).factor_axes = {data, {}, {graph.mesh->axis("model")}};
  graph.info(y).groups = {{3, ShardingGroup::Kind::as}, {5, ShardingGroup::Kind::like}};
  graph.outputs[0].sharding = parse_sharding(graph.mesh, "[{}, {model}]");
  Shape larger = graph.type(y).shape;
  ++larger[1];
  graph.info(y).padded_shape = larger;
  graph.masks_padding = true;
  expect_identity(graph);

  const Graph parsed = parse_graph(print_graph(graph), all_ops());
  EXPECT_EQ(parsed.name, "step");
  EXPECT_EQ(*parsed.mesh, *graph.mesh);
  EXPECT_EQ(parsed.inputs[1].kind, InputKind::parameter);
  EXPECT_EQ(parsed.outputs[1].alias_input, 1);
  EXPECT_EQ(parsed.outputs[0].sharding, graph.outputs[0].sharding);
  EXPECT_EQ(parsed.info(x).logical_axes, graph.info(x).logical_axes);
  EXPECT_EQ(parsed.info(y).name, "normed");
  EXPECT_EQ(*parsed.info(x).sharding, *graph.info(x).sharding);
  EXPECT_EQ(parsed.at(y).factor_axes, graph.at(y).factor_axes);
  EXPECT_EQ(parsed.info(y).padded_shape, larger);
  EXPECT_TRUE(parsed.masks_padding);
  EXPECT_EQ(parsed.info(y).groups, graph.info(y).groups);
  EXPECT_TRUE(parsed.at(y).recompute);
  EXPECT_EQ(parsed.at(y).scope, "block.0/norm");
  EXPECT_EQ(parsed.at(z).attributes, graph.at(z).attributes);
}

TEST(Text, ConstantsComeBackToTheBit) {
  Graph graph;
  Builder b(graph);
  const double odd[] = {0.1,
                        -0.0,
                        std::numeric_limits<double>::infinity(),
                        1e-310,
                        5e-324,
                        std::numeric_limits<double>::quiet_NaN(),
                        std::nextafter(1.0, 2.0)};
  b.output(ops::constant(b, HostTensor::of<double>({7}, odd)), "f64");
  const float singles[] = {0.1f, 16777217.0f, 1e-45f, -std::numeric_limits<float>::infinity()};
  b.output(ops::constant(b, HostTensor::of<float>({2, 2}, singles)), "f32");
  for (const DType dtype :
       {DType::bf16, DType::f16, DType::f8e4m3fn, DType::s8, DType::u64, DType::pred}) {
    HostTensor tensor({dtype, {3}});
    tensor.set_real(0, 1);
    if (is_float(dtype)) tensor.set_real(1, 0.3);
    b.output(ops::constant(b, std::move(tensor)), std::string(name_of(dtype)));
  }
  HostTensor complex({DType::c64, {2}});
  complex.set_complex(0, {0.25, -3});
  b.output(ops::constant(b, std::move(complex)), "c64");
  b.output(ops::constant(b, 0.1, {DType::f32, {4}}), "scalar");
  b.output(ops::constant(b, HostTensor({DType::f32, {0, 3}})), "empty");
  expect_identity(graph);
  const Graph parsed = parse_graph(print_graph(graph), all_ops());
  const auto before = interpret(graph, {}), after = interpret(parsed, {});
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(before[i], after[i]) << graph.outputs[i].name;
}

TEST(Text, BodiesOfFusionsNest) {
  auto body = std::make_shared<Graph>();
  body->name = "body";
  Builder inner(*body);
  const Value a = inner.input(InputKind::data, "a", {DType::f32, {4}});
  inner.output(ops::tanh(inner, ops::scale(inner, a, 0.5)), "r");
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {4}});
  b.output(ops::fusion(b, body, {x})[0], "y");
  expect_identity(graph);
  verify(parse_graph(print_graph(graph), all_ops()), GraphStage::built);
}

TEST(Text, DeviceOrderAndLocalComeBack) {
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(std::vector<MeshAxis>{{"data", 4}},
                                            std::vector<int64_t>{0, 2, 1, 3});
  graph.is_local = true;
  expect_identity(graph);
  EXPECT_EQ(*parse_graph(print_graph(graph), all_ops()).mesh, *graph.mesh);
}

// Every op of the table, with the samples its own tests run on.
TEST(Text, EverySampleOfEveryOpComesBack) {
  for (const OpDef* op : all_ops()) {
    if (!op->samples) continue;
    for (const OpSample& sample : op->samples()) {
      Graph graph;
      for (const auto& [key, value] : sample.attributes.entries())
        if (const auto* sharding = std::get_if<Sharding>(&value))
          graph.mesh = sharding->mesh;
        else if (const auto* shardings = std::get_if<Shardings>(&value))
          graph.mesh = shardings->at(0).mesh;
      const bool has_axes = sample.attributes.has(Attr::axes);
      if (has_axes && !graph.mesh)
        graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=8,model=8,stage=8"));
      Builder b(graph);
      std::vector<Value> operands;
      for (size_t i = 0; i < sample.operands.size(); ++i)
        operands.push_back(b.input(InputKind::data, cat("x", i), sample.operands[i]));
      const Value made = b.emit(*op, operands, sample.attributes);
      b.output(made, "y");
      SCOPED_TRACE(op->name);
      expect_identity(graph);
      const Graph parsed = parse_graph(print_graph(graph), all_ops());
      if (!has_axes && !sample.attributes.has(Attr::sharding)) {
        EXPECT_EQ(parsed.at(made).attributes, graph.at(made).attributes);
      }
    }
  }
}

TEST(Text, CommentsAndBlanksAreSkipped) {
  const Graph graph = parse_graph(R"(// a test
    graph "g" {
      %0 = parameter {index=0, name="x", shape=[2], dtype=f32} : f32[2] named "x" input 0 data
      %1 = negate(%0) : f32[2]   // minus
      return %1 as "y"
    })",
                                  all_ops());
  EXPECT_EQ(graph.instructions.size(), 2u);
  EXPECT_EQ(graph.find_output("y"), 0);
}

TEST(Text, RefusalsNameTheLineAndWhatWasExpected) {
  EXPECT_EQ(refusal("graph step {"), "line 1: expected a graph name in quotes, found \"step {\"");
  EXPECT_EQ(refusal("graph \"g\" {\n  %1 = iota"),
            "line 2: expected %0 (instructions are numbered in order), found \"%1 = iota\"");
  EXPECT_EQ(refusal("graph \"g\" {\n\n  %0 = frobnicate"),
            "line 3: expected the name of a known op, found \"frobnicate\"");
  EXPECT_EQ(refusal("graph \"g\" {\n  %0 = negate(%3)"),
            "line 2: expected a value defined above, found \"%3)\"");
  EXPECT_EQ(refusal("graph \"g\" {\n  %0 = iota {dimention=0}"),
            "line 2: expected the name of an attribute, found \"dimention=0}\"");
  EXPECT_EQ(refusal("graph \"g\" {\n  %0 = iota {dimension=0} : f33[2]"),
            "line 2: expected a tensor type such as f32[8,16], found \"f33[2]\"");
  EXPECT_EQ(refusal("graph \"g\" {\n  %0 = iota {dimension=0} : f32[2] [{data}]"),
            "line 2: expected no sharding, as the graph has no mesh, found \"[{data}]\"");
  EXPECT_EQ(refusal("graph \"g\" {\n  %0 = iota {dimension=0} : f32[2]\n  return %0 as \"y\" over "
                    "input 0\n}"),
            "line 3: expected one of the 0 inputs, found \"0\"");
  EXPECT_EQ(refusal("graph \"g\" {\n} graph"),
            "line 2: expected the end after the graph, found \"graph\"");
  EXPECT_NE(refusal("graph \"g\" {\n  %0 = iota {dimension=x} : f32[2]")
                .find("line 2: attribute dimension"),
            std::string::npos);
}

}  // namespace
}  // namespace tessera
