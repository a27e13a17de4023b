// The router of experts by numbers: what models call by other names, and the order by expert of docs/experts.md.
#include "core/ops/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/permute_tokens.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::Reals;
using testing::reals;

// The outputs of what `write` makes of a constant f64 [rows, columns].
std::vector<HostTensor> run(const Shape& shape, const Reals& values,
                            const std::function<std::vector<Value>(Builder&, Value)>& write) {
  Graph graph;
  Builder b(graph);
  for (const Value output : write(b, ops::constant(b, HostTensor::of<double>(shape, values))))
    b.output(output, cat("y", graph.outputs.size()));
  return interpret(graph, {});
}

void expect_near(const HostTensor& got, const Reals& want) {
  ASSERT_EQ(got.elements(), static_cast<int64_t>(want.size()));
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(got.get_real(static_cast<int64_t>(i)), want[i], 1e-12) << i;
}

// Logits whose softmax is 1/10, 4/10, 2/10, 3/10.
const Reals kLogits = {std::log(1.0), std::log(4.0), std::log(2.0), std::log(3.0)};

TEST(Routing, SoftmaxBeforeAndAfterTheChoice) {
  for (const auto& [normalize, weights] :
       {std::pair{true, Reals{4.0 / 7, 3.0 / 7}}, {false, Reals{0.4, 0.3}}}) {
    const auto results = run({1, 4}, kLogits, [&](Builder& b, Value logits) {
      const ops::Routing r = ops::top_k_routing(b, logits, {.k = 2, .normalize = normalize});
      return std::vector<Value>{r.weights, r.experts};
    });
    expect_near(results[0], weights);
    EXPECT_EQ(reals(results[1]), (Reals{1, 3}));
  }
}

// The bias chooses expert 0 and has no other part.
TEST(Routing, SigmoidChosenWithABias) {
  const auto results = run({1, 4}, {0, std::log(3.0), -1, -2}, [](Builder& b, Value logits) {
    const Value bias = ops::constant(b, HostTensor::of<double>({4}, Reals{1, 0, 0, 0}));
    const ops::Routing r = ops::top_k_routing(
        b, logits, {.k = 2, .score_function = "sigmoid", .scale = 2.5}, bias);
    return std::vector<Value>{r.weights, r.experts};
  });
  expect_near(results[0], {2.5 * 0.5 / 1.25, 2.5 * 0.75 / 1.25});
  EXPECT_EQ(reals(results[1]), (Reals{0, 1}));
}

// Of equal experts the lower index, also where everything is excluded.
TEST(Routing, Ties) {
  const auto results = run({2, 4}, {1, 2, 2, 2, 0, 0, 0, 0}, [](Builder& b, Value logits) {
    return std::vector<Value>{ops::top_k_routing(b, logits, {.k = 3}).experts};
  });
  EXPECT_EQ(reals(results[0]), (Reals{1, 2, 3, 0, 1, 2}));
}

// Groups of 2: the best single score is in the first, the best two are in the last.
TEST(Routing, LimitToGroups) {
  const Reals scores = {9, 0, 4, 1, 6, 5};
  const double closed = -INFINITY;
  for (const auto& [best, open] : {std::pair{int64_t{1}, Reals{0, 0, closed, closed, closed, closed}},
                                   {int64_t{2}, Reals{closed, closed, closed, closed, 0, 0}}}) {
    const auto results = run({1, 6}, scores, [&](Builder& b, Value x) {
      return std::vector<Value>{ops::limit_to_groups(b, x, {.groups = 3, .chosen = 1, .best = best})};
    });
    EXPECT_EQ(reals(results[0]), open);
  }
  EXPECT_THROW(run({1, 6}, scores,
                   [](Builder& b, Value x) {
                     return std::vector<Value>{ops::limit_to_groups(b, x, {.groups = 4})};
                   }),
               UserError);
}

TEST(Routing, ExpertOrder) {
  Graph graph;
  Builder b(graph);
  const Value experts = b.input(InputKind::data, "experts", {DType::s32, {3, 2}});
  const ops::ExpertOrder order = ops::expert_order(b, experts, 3);
  b.output(order.places, "places");
  b.output(order.group_sizes, "group_sizes");
  const auto run_on = [&](const std::vector<int32_t>& values) {
    const std::vector<HostTensor> inputs = {HostTensor::of<int32_t>({3, 2}, values)};
    return interpret(graph, inputs);
  };
  const auto results = run_on({2, 0, 0, 1, 2, 1});
  EXPECT_EQ(reals(results[0]), (Reals{4, 0, 1, 2, 5, 3}));
  EXPECT_EQ(reals(results[1]), (Reals{2, 2, 2}));
  // Experts that do not exist stand last.
  const auto beyond = run_on({2, -1, 0, 3, 2, 2});
  EXPECT_EQ(reals(beyond[0]), (Reals{1, 4, 0, 5, 2, 3}));
  EXPECT_EQ(reals(beyond[1]), (Reals{1, 0, 3}));
}

}  // namespace
}  // namespace tessera
