// A layer of experts written with the ops of core/ops/{ragged,routing,permute_tokens}.h: against every
// expert computed for every token and weighted by the routing, and partitioned.
#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/permute_tokens.h"
#include "core/ops/ragged.h"
#include "core/ops/routing.h"
#include "core/ops/sort.h"
#include "core/ops/structure.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct Layer {
  int64_t tokens = 12, embed = 6, hidden = 10, experts = 5;
  ops::RoutingOptions routing = {.k = 2};
  bool has_bias = false;
  ops::GroupLimit limit = {};  // of more than one group: tokens go to few
};

struct Routed {
  Value weights, experts;  // [t, k]
};

Value scores_of(Builder& b, const Layer& layer, Value logits) {
  return layer.routing.score_function == "sigmoid" ? ops::logistic(b, logits)
                                                   : ops::expert_probabilities(b, logits);
}

// [e], or [t, e] where tokens are limited to groups of experts.
Value whole_bias(Builder& b, const Layer& layer, Value logits, Value bias) {
  if (layer.limit.groups == 1) return bias;
  const Value scores = scores_of(b, layer, logits);
  const Value rows = ops::broadcast_last(b, bias, b.shape(scores));
  return ops::add(b, rows, ops::limit_to_groups(b, ops::add(b, scores, rows), layer.limit));
}

// What the router is, from ops that know nothing of experts.
Routed route_plainly(Builder& b, const Layer& layer, Value logits, Value bias) {
  const Value scores = scores_of(b, layer, logits);
  const Value by =
      bias.valid() ? ops::add(b, scores, ops::broadcast_last(b, bias, b.shape(scores))) : scores;
  const Value experts = ops::top_k(b, by, layer.routing.k).indices;
  Value weights = ops::take_along(b, scores, experts, 1);
  if (layer.routing.normalize)
    weights = ops::divide(b, weights,
                          ops::broadcast_in_dim(b, ops::reduce(b, weights, {1}),
                                                b.shape(weights), {0}));
  return {ops::scale(b, weights, layer.routing.scale), experts};
}

// [t, k] experts -> [t, k, e], 1 where expert j of a token is e.
Value one_hot(Builder& b, Value experts, int64_t count) {
  const Shape shape{b.shape(experts)[0], b.shape(experts)[1], count};
  const Value is_equal =
      ops::compare(b, ops::broadcast_in_dim(b, experts, shape, {0, 1}),
                   ops::iota(b, {DType::s32, shape}, 2), CompareDirection::eq);
  return ops::convert(b, is_equal, DType::f64);
}

struct Experts {
  Value y, counts;  // [t, d], f64[e]: how often each expert was chosen
};

Experts grouped(Builder& b, const Routed& routed, Value x, Value w1, Value w2, int64_t count) {
  const ops::ExpertOrder order = ops::expert_order(b, routed.experts, count);
  const Value rows = b.annotate(ops::permute_tokens(b, x, order.places), {"rows", "embed"});
  const Value hidden =
      b.annotate(ops::ragged_dot(b, rows, w1, order.group_sizes), {"rows", "mlp"});
  const Value out = b.annotate(
      ops::ragged_dot(b, ops::silu(b, hidden), w2, order.group_sizes), {"rows", "embed"});
  return {b.annotate(ops::unpermute_tokens(b, out, order.places, routed.weights),
                     {"batch", "embed"}),
          ops::convert(b, order.group_sizes, DType::f64)};
}

Experts dense(Builder& b, const Routed& routed, Value x, Value w1, Value w2, int64_t count) {
  const Value hidden = ops::silu(b, ops::dot_general(b, x, w1, {{1}, {1}}));  // [t, e, h]
  const Value out = ops::dot_general(b, hidden, w2, {{2}, {1}, {1}, {0}});    // [e, t, d]
  const Value chosen = one_hot(b, routed.experts, count);
  const Value weights =
      ops::dot_general(b, routed.weights, chosen, {{1}, {1}, {0}, {0}});  // [t, e]
  return {ops::dot_general(b, weights, out, {{1}, {0}, {0}, {1}}), ops::reduce(b, chosen, {0, 1})};
}

// The loss is the squared error and a tenth of the load balance: experts x sum of (share of tokens) x
// (mean probability). Outputs: loss, y, gradients of x and all parameters.
Graph layer_graph(const Layer& layer, bool is_dense) {
  Graph graph;
  graph.name = "experts";
  Builder b(graph);
  const auto type = [](Shape shape) { return TensorType{DType::f64, std::move(shape)}; };
  const auto [t, d, h, e] = std::tuple(layer.tokens, layer.embed, layer.hidden, layer.experts);
  const Value x = b.input(InputKind::data, "x", type({t, d}), {"batch", "embed"});
  const Value target = b.input(InputKind::data, "target", type({t, d}), {"batch", "embed"});
  const auto parameter = [&](const char* name, Shape shape, std::vector<std::string> axes) {
    return b.input(InputKind::parameter, name, type(std::move(shape)), std::move(axes));
  };
  const Value router = parameter("router", {d, e}, {"embed", "expert"}),
              w1 = parameter("w1", {e, d, h}, {"expert", "embed", "mlp"}),
              w2 = parameter("w2", {e, h, d}, {"expert", "mlp", "embed"});
  const Value logits = ops::matmul(b, x, router);
  const Value bias =
      layer.has_bias ? whole_bias(b, layer, logits, parameter("bias", {e}, {"expert"})) : Value{};
  Routed routed;
  if (is_dense) {
    routed = route_plainly(b, layer, logits, bias);
  } else {
    const ops::Routing routing = ops::top_k_routing(b, logits, layer.routing, bias);
    routed = {routing.weights, routing.experts};
  }
  const Experts made = (is_dense ? dense : grouped)(b, routed, x, w1, w2, e);
  const Value error = ops::subtract(b, made.y, target);
  const Value mean = ops::reduce(b, ops::expert_probabilities(b, logits), {0});
  const double per_token = 0.1 * static_cast<double>(e) / static_cast<double>(t * t * layer.routing.k);
  const Value loss = ops::add(
      b, ops::reduce_all(b, ops::multiply(b, error, error)),
      ops::scale(b, ops::reduce_all(b, ops::multiply(b, made.counts, mean)), per_token));
  b.output(loss, "loss");
  b.output(made.y, "y");
  const std::vector<Value> wrt = {x, router, w1, w2};
  const std::vector<Value> grads = gradients(b, loss, wrt);
  for (size_t i = 0; i < wrt.size(); ++i) b.output(grads[i], cat("d", i));
  return graph;
}

std::vector<Layer> layers() {
  std::vector<Layer> layers(6);
  layers[1].routing = {.k = 3, .normalize = false, .scale = 2};
  layers[2].routing = {.k = 2, .score_function = "sigmoid"};
  layers[2].has_bias = true;
  layers[3].routing = {.k = 1, .score_function = "sigmoid", .normalize = false};
  layers[4].tokens = 3;  // experts without a token
  layers[4].experts = 9;
  layers[5].experts = 12;  // DeepSeek-V3's router
  layers[5].routing = {.k = 3, .score_function = "sigmoid", .scale = 2.5};
  layers[5].has_bias = true;
  layers[5].limit = {.groups = 4, .chosen = 2, .best = 2};
  return layers;
}

TEST(Experts, AreThoseOfAllExpertsWeighted) {
  for (const Layer& layer : layers()) {
    const Graph graph = layer_graph(layer, false);
    const std::vector<HostTensor> inputs = random_inputs(graph, 3);
    const std::vector<HostTensor> actual = interpret(graph, inputs),
                                  expected = interpret(layer_graph(layer, true), inputs);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i)
      EXPECT_LT(error_between(expected[i], actual[i]), 1e-10)
          << "output " << graph.outputs[i].name << ", " << layer.routing.score_function << " of "
          << layer.routing.k;
  }
}

// Hidden columns, embedding columns, experts or two of these are cut, evenly and not; tokens come in shards.
TEST(Experts, AreTheSamePartitioned) {
  for (const char* mesh : {"model=2", "model=4", "data=2,model=2"})
    for (const char* rules : {"mlp=model", "embed=model", "expert=model"}) {
      const bool has_data = std::string_view(mesh).starts_with("data");
      const ShardingConfig config =
          config_of(rules, cat(rules, has_data ? " batch=data" : ""));
      EXPECT_EQ(check_every_pass(layer_graph({}, false), mesh_of(mesh), config), "")
          << rules << " on " << mesh;
    }
  const ShardingConfig both = config_of("mlp=model embed=data", "mlp=model batch=data"),
                       experts = config_of("expert=data mlp=model", "mlp=model batch=data");
  for (const Layer& layer : layers())
    for (const ShardingConfig& config : {both, experts})
      EXPECT_EQ(check_every_pass(layer_graph(layer, false), mesh_of("data=2,model=2"), config), "");
}

// Megatron's cut: each device has a part of every expert's hidden columns, forward and backward. Exchanged
// are sums of rows, never matrices: forward those that token_dots reads whole, [24, 6]; backward the partial
// rows have come back to their tokens before, [12, 6].
TEST(Experts, HaveHiddenColumnsOnAllDevices) {
  PartitionReport report;
  const Layer layer{.hidden = 14};  // half of which is no other extent
  const Graph local = partition(layer_graph(layer, false), mesh_of("model=2"),
                                config_of("mlp=model", "mlp=model"), {}, &report);
  int products = 0;
  for (const Instruction& instruction : local.instructions) {
    if (!instruction.is(ops::kRaggedDot) && !instruction.is(ops::kRaggedContraction)) continue;
    ++products;
    const Shape &lhs = local.type(instruction.operands[0]).shape,
                &rhs = local.type(instruction.operands[1]).shape;
    int hidden = 0;  // two of the three tensors have them
    for (const Shape& shape : {lhs, rhs, instruction.results[0].type.shape})
      for (const int64_t size : shape) hidden += size == layer.hidden / 2;
    EXPECT_EQ(hidden, 2) << lhs << " " << rhs;
  }
  EXPECT_EQ(products, 6);
  EXPECT_EQ(collectives_of(report), "all_reduce{model} x2 1728 B");
}

// Experts cut over devices that have all tokens: each computes the rows of its own, forward and backward, and
// the rows are summed. No matrix is gathered.
TEST(Experts, HaveTheirMatricesOnOneDevice) {
  PartitionReport report;
  const Layer layer{.experts = 8};
  const Graph local = partition(layer_graph(layer, false), mesh_of("model=4"),
                                config_of("expert=model", "expert=model"), {}, &report);
  int products = 0;
  for (const Instruction& instruction : local.instructions) {
    const bool is_dot = instruction.is(ops::kRaggedDot);
    if (!is_dot && !instruction.is(ops::kRaggedContraction)) continue;
    ++products;
    EXPECT_EQ(instruction.operands.size(), 4u);  // with a start
    const TensorType& matrices =
        is_dot ? local.type(instruction.operands[1]) : instruction.results[0].type;
    EXPECT_EQ(matrices.shape[0], 2) << matrices;
  }
  EXPECT_EQ(products, 6);
  // What is gathered, of all of it, is the router's: less than one device's matrices.
  const int64_t matrices = 2 * layer.embed * layer.hidden * size_of(DType::f64);
  for (const CollectiveSummary& one : report.collectives)
    if (one.op == "all_gather") {
      EXPECT_LT(one.bytes, matrices) << collectives_of(report);
    }
}

}  // namespace
}  // namespace tessera::testing
