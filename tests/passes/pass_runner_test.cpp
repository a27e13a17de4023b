#include "core/passes/pass_runner.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "core/passes/dead_code.h"

namespace tessera {
namespace {

Graph graph_with_dead_code() {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {2}});
  ops::tanh(b, x);
  b.output(ops::negate(b, x), "y");
  return graph;
}

TEST(PassRunner, RunsTimesAndShowsEachPass) {
  std::vector<std::string> seen;
  PassRunnerOptions options;
  options.observe = [&](std::string_view pass, const Graph& graph) {
    seen.push_back(cat(pass, " ", graph.instructions.size()));
  };
  PassRunner passes(options);
  const Graph graph =
      passes.run("dce", GraphStage::built, graph_with_dead_code(), eliminate_dead_code);
  EXPECT_EQ(graph.instructions.size(), 2u);
  EXPECT_EQ(seen, std::vector<std::string>{"dce 2"});
  ASSERT_EQ(passes.seconds().size(), 1u);
  EXPECT_EQ(passes.seconds()[0].first, "dce");
  EXPECT_GE(passes.seconds()[0].second, 0);
}

TEST(PassRunner, SkipsByName) {
  PassRunnerOptions options;
  options.skip = {"dce"};
  PassRunner passes(options);
  EXPECT_EQ(passes.run("dce", GraphStage::built, graph_with_dead_code(), eliminate_dead_code)
                .instructions.size(),
            3u);
}

TEST(PassRunner, ABrokenGraphNamesThePassThatBrokeIt) {
  PassRunner passes;
  try {
    passes.run("breaker", GraphStage::built, graph_with_dead_code(), [](const Graph& graph) {
      Graph broken = graph;
      broken.instructions[2].results[0].type.shape = Shape{3};
      return broken;
    });
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("after pass breaker"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace tessera
