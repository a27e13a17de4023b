#include "partitioner/annotate.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ops/elementwise.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

std::string sharding_of(const Graph& graph, const std::string& name) {
  for (const Instruction& instruction : graph.instructions)
    for (const ResultInfo& result : instruction.results)
      if (result.name == name) return cat(*result.sharding);
  return "no tensor " + name;
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Annotate, RulesInOrderOfPriority) {
  Graph graph;
  Builder b(graph);
  b.input(InputKind::data, "q", {DType::f32, {8, 16, 4, 2}},
          {"batch", "length", "heads", "head_dim"});
  b.input(InputKind::data, "x", {DType::f32, {8, 16, 32}}, {"batch", "length", "embed"});
  const Graph annotated = annotate(graph, mesh_of("data=2,model=4"),
                                   config_of("", "heads=model length=model batch=data"));
  EXPECT_EQ(sharding_of(annotated, "q"),
            "[{data}, {}, {model}, {}]");  // model is taken: length goes without
  EXPECT_EQ(sharding_of(annotated, "x"), "[{data}, {model}, {}]");
}

TEST(Annotate, KindsHaveTheirOwnRules) {
  const Graph annotated = annotate(perceptron(), mesh_of("data=2,model=2"),
                                   config_of("mlp=model", "batch=data", "mlp=model embed=data"));
  EXPECT_EQ(sharding_of(annotated, "w1"), "[{}, {model}]");
  EXPECT_EQ(sharding_of(annotated, "w1/m"), "[{data}, {model}]");
  EXPECT_EQ(sharding_of(annotated, "x"), "[{data}, {}]");
  EXPECT_EQ(sharding_of(annotated, "hidden"), "[{data}, {?}]");  // what no rule places stays open
  EXPECT_EQ(cat(*annotated.outputs[annotated.find_output("w1/m")].sharding), "[{data}, {model}]");
}

TEST(Annotate, AccumulatorsStayPartialOverTheBatch) {
  Graph graph;
  Builder b(graph);
  b.input(InputKind::accumulator, "whole", {DType::f32, {8, 8}}, {"embed", "mlp"});
  b.input(InputKind::accumulator, "loss", {DType::f32, {}});
  const MeshPtr mesh = mesh_of("host=2,data=2");
  EXPECT_EQ(sharding_of(annotate(graph, mesh, config_of("", "batch=host,data")), "whole"),
            "[{}, {}] partial{sum: host,data}");
  EXPECT_EQ(sharding_of(annotate(graph, mesh, config_of("embed=data", "batch=host,data")), "whole"),
            "[{data}, {}] partial{sum: host}");
  EXPECT_EQ(sharding_of(annotate(graph, mesh, config_of("", "batch=host,data")), "loss"),
            "[] partial{sum: host,data}");
}

TEST(Annotate, OverridesComeFirst) {
  ShardingConfig config = config_of("mlp=model", "");
  config.overrides.push_back({"w[0-9]", {{"model"}, {}}});
  const Graph annotated = annotate(perceptron(), mesh_of("model=2"), config);
  EXPECT_EQ(sharding_of(annotated, "w1"), "[{model}, {}]");
  EXPECT_EQ(sharding_of(annotated, "b1"), "[{model}]");
}

TEST(Annotate, DimsOfSizeOneAreReplicated) {
  Graph graph;
  Builder b(graph);
  b.input(InputKind::data, "x", {DType::f32, {1, 8}}, {"batch", "length"});
  EXPECT_EQ(sharding_of(annotate(graph, mesh_of("data=2"), config_of("", "batch=data")), "x"),
            "[{}, {}]");
}

TEST(Annotate, IndivisibleDimsArePaddedOrSkipped) {
  EXPECT_EQ(sharding_of(annotate(perceptron({.hidden = 9}), mesh_of("data=2,model=2"),
                                 config_of("mlp=model", "")),
                        "w1"),
            "[{}, {model}]");
  ShardingConfig config = config_of("mlp=model", "");
  config.parameter_rules[0].if_divides = true;
  AnnotateNotes notes;
  const Graph annotated =
      annotate(perceptron({.hidden = 9}), mesh_of("model=2"), config, nullptr, &notes);
  EXPECT_EQ(sharding_of(annotated, "w1"), "[{}, {}]");
  ASSERT_FALSE(notes.warnings.empty());
  EXPECT_NE(notes.warnings[0].find("parameter rule mlp -> model skipped (if_divides)"),
            std::string::npos)
      << notes.warnings[0];
}

TEST(Annotate, Mistakes) {
  const MeshPtr mesh = mesh_of("data=2,model=2");
  EXPECT_EQ(message_of([&] { annotate(perceptron(), mesh, config_of("mlp=modle", "")); }),
            "sharding: parameter rule mlp -> modle: mesh <data=2, model=2> has no axis \"modle\"; "
            "did you mean \"model\"?");
  ShardingConfig config;
  config.overrides.push_back({"w9", {{"model"}, {}}});
  EXPECT_EQ(message_of([&] { annotate(perceptron(), mesh, config); }),
            "sharding override \"w9\" matches no tensor; it must match a whole name; did you mean "
            "\"w1\"?");
  config.overrides[0] = {"b1", {{"model"}, {}}};
  EXPECT_EQ(message_of([&] { annotate(perceptron(), mesh, config); }),
            "sharding override \"b1\" gives 2 dims, but \"b1\" (%3) is f64[16]; give 1");
  config.overrides[0] = {"b1(", {{"model"}}};
  EXPECT_NE(
      message_of([&] { annotate(perceptron(), mesh, config); }).find("is not a regular expression"),
      std::string::npos);
  AnnotateNotes notes;
  annotate(perceptron(), mesh, config_of("mpl=model", ""), nullptr, &notes);
  EXPECT_EQ(notes.warnings,
            std::vector<std::string>{"parameter rule mpl -> model matches no tensor"});
}

}  // namespace
}  // namespace tessera::testing
