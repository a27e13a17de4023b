// Programs of other frameworks have ten thousands of instructions: reading, checking and rewriting
// them takes seconds at the most, and twice as much for twice as many.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <functional>

#include "core/ir/regions.h"
#include "core/ir/text.h"
#include "core/ir/verifier.h"
#include "core/ops/op_list.h"
#include "core/passes/algebraic.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/constant_folding.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/passes/inline_calls.h"
#include "core/passes/loop_invariants.h"
#include "core/passes/simplify_case.h"
#include "core/passes/trip_count.h"
#include "tests/passes/large_program.h"

namespace tessera {
namespace {

int64_t size_of(const Graph& graph) {
  int64_t size = 0;
  for_each_region(graph, [&](const Graph& each) { size += static_cast<int64_t>(each.instructions.size()); });
  return size;
}

using Seconds = std::vector<std::pair<std::string, double>>;

Seconds time_all(const Graph& source) {
  Seconds seconds;
  auto timed = [&](const char* name, auto&& body) {
    const auto begin = std::chrono::steady_clock::now();
    decltype(auto) made = body();
    seconds.emplace_back(
        name, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    return made;
  };
  Graph graph = source;
  const std::string text = timed("print", [&] { return print_graph(graph); });
  graph = timed("parse", [&] { return parse_graph(text, all_ops()); });
  auto verified = [&] { return verify(graph, GraphStage::built), 0; };
  timed("verify", verified);
  timed("uses", [&] { return graph.uses(); });
  const std::pair<const char*, std::function<Graph(const Graph&)>> passes[] = {
      {"merge_common", merge_common_subexpressions},
      {"dead_code", eliminate_dead_code},
      {"inline_calls", inline_calls},
      {"trip_counts", find_trip_counts},
      {"hoist", [](const Graph& g) { return hoist_loop_invariants(g); }},
      {"fold", [](const Graph& g) { return fold_constants(g); }},
      {"simplify_case", simplify_case},
      {"algebra", simplify_algebra},
      {"merge_common 2", merge_common_subexpressions},
      {"dead_code 2", eliminate_dead_code},
      {"fusion", fuse_elementwise},
  };
  for (const auto& [name, pass] : passes) graph = timed(name, [&] { return pass(graph); });
  timed("verify 2", verified);
  return seconds;
}

TEST(LargeGraphs, EveryPassTakesUnderASecond) {
  const Graph graph = testing::large_program({});
  EXPECT_NEAR(static_cast<double>(size_of(graph)), 20000, 2000);
  for (const auto& [name, seconds] : time_all(graph)) EXPECT_LT(seconds, 1.0) << name;
}

// Prints a table; the least of three, as the machine may be busy.
TEST(LargeGraphsLong, TimesGrowAsTheGraphDoes) {
  std::vector<Seconds> least;
  const std::vector<int> factors{1, 2, 4};
  for (int factor : factors) {
    const Graph graph = testing::large_program(
        {.instructions = 20000 * factor, .calls = 200 * factor, .loops = 4 * factor});
    Seconds best = time_all(graph);
    for (int round = 0; round < 2; ++round) {
      const Seconds again = time_all(graph);
      for (size_t i = 0; i < best.size(); ++i) best[i].second = std::min(best[i].second, again[i].second);
    }
    std::printf("%d instructions\n", static_cast<int>(size_of(graph)));
    least.push_back(std::move(best));
  }
  for (size_t i = 0; i < least[0].size(); ++i) {
    std::printf("%-16s", least[0][i].first.c_str());
    for (const Seconds& one : least) std::printf(" %8.1f ms", one[i].second * 1e3);
    std::printf("\n");
    // Twice as much for four times as many would be quadratic in half of the work: 10 where 4 is linear.
    EXPECT_LT(least[2][i].second, 10 * least[0][i].second + 0.05) << least[0][i].first;
  }
}

}  // namespace
}  // namespace tessera
