// Small training steps, and random ones, for the tests of compilation and execution.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/autodiff/autodiff.h"
#include "core/base/strings.h"
#include "core/ir/builder.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/optimizer.h"
#include "core/ops/structure.h"
#include "partitioner/partition.h"

namespace tessera::testing {

// `layers` times x -> x + gelu(x w_up + b) w_down, squared error, AdamW on all weights.
inline Graph mlp_step(int layers, int64_t batch, int64_t embed, int64_t hidden,
                      DType t = DType::f64) {
  Graph graph;
  graph.name = "mlp_step";
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {t, {batch, embed}}, {"batch", "embed"});
  const Value y = b.input(InputKind::data, "y", {t, {batch, embed}}, {"batch", "embed"});
  const Value rate = b.input(InputKind::scalar, "learning_rate", {t, {}});
  std::vector<std::pair<std::string, Value>> weights;
  Value h = x;
  for (int layer = 0; layer < layers; ++layer) {
    ScopeGuard scope(b, cat("block.", layer));
    auto weight = [&](const char* name, Shape shape, std::vector<std::string> axes) {
      weights.emplace_back(
          cat("block.", layer, ".", name),
          b.input(InputKind::parameter, cat("block.", layer, ".", name), {t, shape}, axes));
      return weights.back().second;
    };
    const Value up = weight("up", {embed, hidden}, {"embed", "mlp"});
    const Value bias = weight("bias", {hidden}, {"mlp"});
    const Value down = weight("down", {hidden, embed}, {"mlp", "embed"});
    Value inner = ops::matmul(b, h, up);
    inner = ops::add(b, inner, ops::broadcast_last(b, bias, b.shape(inner)));
    inner =
        b.annotate(ops::gelu(b, inner, true), {"batch", "mlp"}, cat("block.", layer, ".hidden"));
    h = b.annotate(ops::add(b, h, ops::matmul(b, inner, down)), {"batch", "embed"},
                   cat("block.", layer, ".out"));
  }
  const Value error = ops::subtract(b, h, y);
  const Value loss = ops::scale(b, ops::reduce_all(b, ops::multiply(b, error, error)),
                                1.0 / static_cast<double>(batch));
  b.output(loss, "loss");
  std::vector<Value> wrt;
  for (const auto& [name, value] : weights) wrt.push_back(value);
  const std::vector<Value> grads = gradients(b, loss, wrt);
  const Value one = ops::constant(b, 1.0, {t, {}}), half = ops::constant(b, 0.5, {t, {}});
  for (size_t i = 0; i < weights.size(); ++i) {
    const ResultInfo info = graph.info(weights[i].second);
    const int m_number = static_cast<int>(graph.inputs.size());
    const Value m =
        b.input(InputKind::optimizer, weights[i].first + "/m", info.type, info.logical_axes);
    const Value v =
        b.input(InputKind::optimizer, weights[i].first + "/v", info.type, info.logical_axes);
    const auto step = ops::adamw(b, {weights[i].second, m, v, grads[i], rate, one, half, half}, {});
    b.output(step.param, weights[i].first, 3 + static_cast<int>(i));
    b.output(step.m, weights[i].first + "/m", m_number);
    b.output(step.v, weights[i].first + "/v", m_number + 1);
  }
  return graph;
}

inline std::vector<HostTensor> random_inputs(const Graph& graph, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> real(-1, 1);
  std::vector<HostTensor> inputs;
  for (const GraphInput& input : graph.inputs) {
    HostTensor tensor(graph.type(input.value));
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      const double value = real(random);
      tensor.set_real(i, input.kind == InputKind::optimizer ? std::abs(value) : value);
    }
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

inline std::vector<AxisRule> rules(std::string_view text) {
  std::vector<AxisRule> rules;
  for (const std::string& part : split(text, ' ')) {
    if (part.empty()) continue;
    AxisRule rule{part.substr(0, part.find('=')), {}, false};
    for (const std::string& axis : split(part.substr(part.find('=') + 1), ','))
      if (!axis.empty()) rule.mesh_axes.push_back(axis);
    rules.push_back(std::move(rule));
  }
  return rules;
}

struct Layout {
  const char *mesh, *parameters, *activations, *optimizer;
};

inline Graph partitioned(const Graph& graph, const Layout& layout,
                         const PartitionOptions& options = {}) {
  ShardingConfig config;
  config.parameter_rules = rules(layout.parameters);
  config.activation_rules = rules(layout.activations);
  config.optimizer_rules = rules(layout.optimizer);
  return partition(graph, std::make_shared<const Mesh>(parse_mesh(layout.mesh)), config,
                   options);
}

// One of each way to train: data parallel, sharded optimizer, fully sharded, tensor parallel, 2-D.
inline const Layout kLayouts[] = {
    {"data=2", "", "batch=data", ""},
    {"data=4", "", "batch=data", "embed=data"},
    {"data=2", "embed=data", "batch=data", "embed=data"},
    {"model=2", "mlp=model", "mlp=model", "mlp=model"},
    {"data=2,model=2", "embed=data mlp=model", "batch=data mlp=model", "embed=data mlp=model"},
    {"data=2,model=4", "mlp=model", "batch=data mlp=model embed=model", "mlp=model embed=data"},
};

// Random graphs of products and elementwise ops on [n, n] matrices, with shared values, parameters
// that outputs overwrite, plain outputs and reshapes.
inline Graph random_graph(uint64_t seed, int size) {
  std::mt19937_64 random(seed);
  auto pick = [&](size_t count) { return static_cast<size_t>(random() % count); };
  Graph graph;
  graph.name = cat("random", seed);
  Builder b(graph);
  const TensorType type{DType::f64, {4, 4}};
  std::vector<Value> values;
  const int parameters = 2 + static_cast<int>(pick(3));
  for (int i = 0; i < parameters; ++i)
    values.push_back(b.input(InputKind::parameter, cat("p", i), type));
  values.push_back(b.input(InputKind::data, "x", type));
  for (int i = 0; i < size; ++i) {
    // Mostly recent values, so that lifetimes differ.
    auto operand = [&] {
      const size_t window = pick(3) == 0 ? values.size() : std::min<size_t>(values.size(), 6);
      return values[values.size() - 1 - pick(window)];
    };
    const Value x = operand(), y = operand();
    switch (pick(9)) {
      case 0:
        values.push_back(ops::tanh(b, ops::matmul(b, x, y)));
        break;
      case 1:
        values.push_back(ops::add(b, x, y));
        break;
      case 2:
        values.push_back(ops::tanh(b, x));
        break;
      case 3:
        values.push_back(ops::multiply(b, x, y));
        break;
      case 4:
        values.push_back(ops::transpose(b, x, {1, 0}));
        break;
      case 5:
        values.push_back(ops::reshape(b, ops::negate(b, ops::reshape(b, x, {16})), {4, 4}));
        break;
      case 6: {
        const Value both = ops::concatenate(b, {ops::tanh(b, x), ops::negate(b, y)}, 0);
        values.push_back(ops::slice_dim(b, both, 0, 4, 8));
        values.push_back(ops::slice_dim(b, both, 0, 2, 6));
        break;
      }
      case 7:
        values.push_back(ops::scale(b, x, 0.5));
        break;
      case 8: {
        const Value sums = ops::reduce(b, x, {0});
        values.push_back(ops::subtract(b, y, ops::broadcast_last(b, sums, type.shape)));
        break;
      }
    }
  }
  // Overwrites, with swaps and shared values among them; and plain outputs.
  for (int i = 0; i < parameters; ++i)
    if (pick(4) != 0) b.output(values[pick(values.size())], cat("p", i), i);
  for (int i = 0; i < 3; ++i)
    b.output(values[values.size() - 1 - pick(8) % values.size()], cat("out", i));
  return graph;
}

}  // namespace tessera::testing
