// The training step of a mixture of experts with capacities and einsums, as GShard has it
// (Lepikhin et al. 2020, algorithm 1, with one expert a token): what the partitioner's benchmark
// takes beside the dense decoder.
//
//     gates    = softmax(x Wg)                          [batch, length, expert]
//     slots    = one_hot(place within the expert)       [batch, length, expert, capacity]
//     taken    = x . slots                              [expert, batch, capacity, embed]
//     given    = relu(taken W1) W2                      the same; over "expert" where x is over "batch"
//     y        = given . (gates * slots)                [batch, length, embed]
#pragma once

#include "core/autodiff/autodiff.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/loss.h"
#include "core/ops/reduce_region.h"
#include "core/ops/scan.h"
#include "core/ops/structure.h"
#include "models/layers.h"

namespace tessera::bench {

struct ExpertStep {
  int64_t layers, embed, heads, mlp, experts, capacity, vocab, batch, length;
  DType compute = DType::bf16;
};

inline Value expert_layer(models::ParameterScope& scope, const std::string& name, Value x,
                          const ExpertStep& step) {
  Builder& b = scope.builder();
  const int64_t batch = step.batch, length = step.length, experts = step.experts;
  const Shape routes{batch, length, experts}, places{batch, length, experts, step.capacity};
  const Value gate = scope.weight(name + ".gate", {step.embed, experts}, {"embed", ""}, {0, 0.02});
  const Value scores = ops::convert(b, ops::matmul(b, x, gate), DType::f32);
  const Value largest = ops::broadcast_in_dim(b, ops::reduce(b, scores, {2}, ReduceKind::max), routes, {0, 1});
  const Value powers = ops::exponential(b, ops::subtract(b, scores, largest));
  const Value gates = ops::divide(b, powers, ops::broadcast_in_dim(b, ops::reduce(b, powers, {2}), routes, {0, 1}));

  // One slot of one expert a token, in the order of the tokens; none where the expert is full.
  const Value best = ops::argmax(b, gates, 2).indices;
  const Value chosen = ops::convert(
      b, ops::compare(b, ops::broadcast_in_dim(b, best, routes, {0, 1}), ops::iota(b, {DType::s32, routes}, 2), CompareDirection::eq),
      DType::f32);
  const Value place = ops::subtract(b, ops::multiply(b, ops::scan(b, chosen, 1, ReduceKind::sum), chosen),
                                    ops::constant_like(b, chosen, 1));
  const Value slots = ops::convert(
      b, ops::compare(b, ops::broadcast_in_dim(b, place, places, {0, 1, 2}), ops::iota(b, {DType::f32, places}, 3), CompareDirection::eq),
      step.compute);
  const Value combine = ops::multiply(
      b, ops::convert(b, ops::broadcast_in_dim(b, gates, places, {0, 1, 2}), step.compute), slots);

  const std::vector<std::string> by_expert{"expert", "batch", "", ""};
  const Value in = scope.weight(name + ".in", {experts, step.embed, step.mlp}, {"expert", "embed", "mlp"}, {0, 0.02});
  const Value out = scope.weight(name + ".out", {experts, step.mlp, step.embed}, {"expert", "mlp", "embed"}, {0, 0.02});
  const Value taken = b.annotate(
      ops::transpose(b, ops::dot_general(b, x, slots, {{1}, {1}, {0}, {0}}), {2, 0, 3, 1}), by_expert);
  const Value product = ops::dot_general(b, taken, in, {{3}, {1}, {0}, {0}});
  const Value hidden = b.annotate(ops::maximum(b, product, ops::zeros_like(b, product)), {"expert", "batch", "", "mlp"});
  const Value given = b.annotate(ops::dot_general(b, hidden, out, {{3}, {1}, {0}, {0}}), by_expert);
  const Value y = ops::dot_general(b, combine, given, {{2, 3}, {0, 2}, {0}, {1}});
  return b.annotate(y, {"batch", "length", "embed"});
}

// Forward, backward and a step of plain gradient descent, in place.
inline Graph build_expert_step(const ExpertStep& step) {
  Graph graph;
  graph.name = "expert_step";
  Builder b(graph);
  models::ParameterScope scope(b, step.compute);
  const std::vector<std::string> axes{"batch", "length"};
  const Value tokens = b.input(InputKind::data, "tokens", {DType::s32, {step.batch, step.length}}, axes);
  const Value targets = b.input(InputKind::data, "targets", {DType::s32, {step.batch, step.length}}, axes);
  const Value table = scope.weight("embedding", {step.vocab, step.embed}, {"vocab", "embed"}, {0, 0.02});
  Value x = b.annotate(ops::embedding(b, table, tokens), {"batch", "length", "embed"});
  for (int64_t layer = 0; layer < step.layers; ++layer) {
    const std::string name = cat("block.", layer);
    const ScopeGuard guard(b, name);
    const models::AttentionOptions attention{
        .heads = step.heads, .kv_heads = step.heads, .head_dim = step.embed / step.heads, .rotary = true};
    x = ops::add(b, x, models::self_attention(scope, name + ".attention", models::rms_norm(scope, name + ".norm1", x, 1e-6), attention));
    x = ops::add(b, x, expert_layer(scope, name + ".experts", models::rms_norm(scope, name + ".norm2", x, 1e-6), step));
  }
  const Value logits = b.annotate(ops::dot_general(b, x, table, {{2}, {1}}), {"batch", "length", "vocab"});
  const Value loss = ops::reduce_all(b, ops::softmax_cross_entropy(b, logits, targets, step.vocab).loss);
  std::vector<Value> parameters;
  for (const models::ParameterSpec& spec : scope.specs()) parameters.push_back(scope.value(spec.name));
  const std::vector<Value> grads = gradients(b, loss, parameters, {.remat = RematPolicy::full});
  for (size_t i = 0; i < parameters.size(); ++i)
    b.output(ops::subtract(b, parameters[i], ops::scale(b, grads[i], 1e-3)), scope.specs()[i].name,
             graph.find_input(scope.specs()[i].name));
  b.output(loss, "loss");
  return graph;
}

}  // namespace tessera::bench
