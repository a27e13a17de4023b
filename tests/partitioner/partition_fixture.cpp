#include "tests/partitioner/partition_fixture.h"

#include <cmath>
#include <limits>
#include <random>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/optimizer.h"
#include "core/ops/structure.h"
#include "core/runtime/sharded_interpreter.h"
#include "core/runtime/thread_run.h"

namespace tessera::testing {

MeshPtr mesh_of(std::string_view text) { return std::make_shared<const Mesh>(parse_mesh(text)); }

Value MeshProgram::input(const std::string& name, TensorType type, const char* sharding,
                         InputKind kind) {
  const Value value = b.input(kind, name, std::move(type));
  graph.info(value).sharding = parse_sharding(mesh, sharding);
  return value;
}

void MeshProgram::output(Value value, const char* sharding) {
  b.output(value, cat("out", graph.outputs.size()));
  if (sharding) graph.outputs.back().sharding = parse_sharding(mesh, sharding);
}

GraphRef region(const MeshPtr& mesh, const std::vector<TensorType>& inputs,
                const RegionWriter& write) {
  Graph graph;
  graph.name = "region";
  graph.mesh = mesh;
  Builder b(graph);
  std::vector<Value> values;
  for (size_t i = 0; i < inputs.size(); ++i)
    values.push_back(b.input(InputKind::data, cat("p", i), inputs[i]));
  size_t number = 0;
  for (Value output : write(b, values)) b.output(output, cat("r", number++));
  return std::make_shared<const Graph>(std::move(graph));
}

std::vector<AxisRule> rules_of(std::string_view text) {
  std::vector<AxisRule> rules;
  for (const std::string& part : split(text, ' ')) {
    if (part.empty()) continue;
    const size_t equals = part.find('=');
    AxisRule rule{part.substr(0, equals), {}, false};
    for (const std::string& axis : split(part.substr(equals + 1), ','))
      if (!axis.empty()) rule.mesh_axes.push_back(axis);
    rules.push_back(std::move(rule));
  }
  return rules;
}

ShardingConfig config_of(std::string_view parameter_rules, std::string_view activation_rules,
                         std::string_view optimizer_rules) {
  ShardingConfig config;
  config.parameter_rules = rules_of(parameter_rules);
  config.activation_rules = rules_of(activation_rules);
  config.optimizer_rules = rules_of(optimizer_rules);
  return config;
}

std::vector<HostTensor> random_inputs(const Graph& graph, uint64_t seed, int64_t integer_limit) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> real(-1, 1);
  std::vector<HostTensor> inputs;
  for (const GraphInput& input : graph.inputs) {
    HostTensor tensor(graph.type(input.value));
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      if (is_float(tensor.dtype()))
        // Moments, rates, bias corrections and token weights are positive.
        tensor.set_real(i, input.kind == InputKind::parameter ? real(random)
                                                              : 0.1 + 0.9 * std::abs(real(random)));
      else
        tensor.set_int(i, static_cast<int64_t>(random() % static_cast<uint64_t>(integer_limit)));
    }
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

double error_between(const HostTensor& a, const HostTensor& b) {
  if (a.type() != b.type()) return std::numeric_limits<double>::infinity();
  double error = 0, scale = 1;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double x = a.get_real(i), y = b.get_real(i);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    if (!std::isfinite(x) || !std::isfinite(y)) return std::numeric_limits<double>::infinity();
    error = std::max(error, std::abs(x - y));
    scale = std::max(scale, std::abs(x));
  }
  return error / scale;
}

std::string check_every_pass(const Graph& graph, const MeshPtr& mesh, const ShardingConfig& config,
                             const PartitionOptions& given, double tolerance, uint64_t seed,
                             PartitionReport* report, const std::vector<HostTensor>* given_inputs) {
  const std::vector<HostTensor> inputs = given_inputs ? *given_inputs : random_inputs(graph, seed);
  const std::vector<HostTensor> expected = interpret(graph, inputs);
  std::string failure;
  bool is_explicit = false;  // all communication is in the graph
  PartitionOptions options = given;
  std::string last_text;
  options.observe = [&](std::string_view pass, const Graph& after) {
    if (!failure.empty()) return;
    last_text = cat("after ", pass, ":\n", print_graph(after));
    is_explicit = is_explicit || pass == "insert_reshards";
    try {
      const std::vector<HostTensor> outputs =
          is_explicit ? interpret_sharded(after, inputs, {seed, nullptr})
                      : interpret(after, inputs);
      for (size_t o = 0; o < outputs.size(); ++o)
        if (const double error = error_between(expected[o], outputs[o]); !(error <= tolerance))
          failure = cat("output \"", graph.outputs[o].name, "\" is off by ", error, " ", last_text);
    } catch (const std::exception& error) {
      failure = cat(error.what(), "\n", last_text);
    }
  };
  try {
    partition(graph, mesh, config, options, report);
  } catch (const std::exception& error) {
    if (failure.empty()) failure = cat(error.what(), "\nwhile partitioning, last ", last_text);
  }
  return failure;
}

std::string check_on_threads(const Graph& graph, const MeshPtr& mesh,
                             const std::vector<HostTensor>& inputs, double tolerance) {
  std::string text;
  try {
    const std::vector<HostTensor> expected = interpret(graph, inputs);
    const Graph local = partition(graph, mesh, {});
    text = print_graph(local);
    const std::vector<HostTensor> made = run_on_threads(local, KernelTable(), inputs);
    for (size_t o = 0; o < expected.size(); ++o)
      if (const double error = error_between(expected[o], made[o]); !(error <= tolerance))
        return cat("output \"", graph.outputs[o].name, "\" is off by ", error, " on threads:\n",
                   text);
  } catch (const std::exception& error) {
    return cat(error.what(), "\n", text);
  }
  return "";
}

std::string collectives_of(const PartitionReport& report) {
  std::vector<std::string> texts;
  for (const CollectiveSummary& one : report.collectives)
    texts.push_back(cat(one.op, "{", one.axes, "} x", one.count, " ", one.bytes, " B"));
  return join(texts, "; ");
}

Graph perceptron(const PerceptronOptions& options) {
  Graph graph;
  graph.name = "perceptron";
  Builder b(graph);
  const DType t = options.dtype;
  const Shape in{options.batch, options.embed};
  const Value x = b.input(InputKind::data, "x", {t, in}, {"batch", "embed"});
  const Value y = b.input(InputKind::data, "y", {t, in}, {"batch", "embed"});
  struct Weight {
    std::string name;
    Shape shape;
    std::vector<std::string> logical;
    Value value = {};
  };
  std::vector<Weight> weights = {{"w1", {options.embed, options.hidden}, {"embed", "mlp"}},
                                 {"b1", {options.hidden}, {"mlp"}},
                                 {"w2", {options.hidden, options.embed}, {"mlp", "embed"}}};
  for (Weight& weight : weights)
    weight.value = b.input(InputKind::parameter, weight.name, {t, weight.shape}, weight.logical);

  Value hidden, out;
  {
    ScopeGuard scope(b, "mlp");
    hidden = ops::matmul(b, x, weights[0].value);
    hidden = ops::add(b, hidden, ops::broadcast_last(b, weights[1].value, b.shape(hidden)));
    hidden = b.annotate(ops::gelu(b, hidden, true), {"batch", "mlp"}, "hidden");
    out = b.annotate(ops::matmul(b, hidden, weights[2].value), {"batch", "embed"}, "out");
  }
  const Value error = ops::subtract(b, out, y);
  const Value loss = ops::scale(b, ops::reduce_all(b, ops::multiply(b, error, error)),
                                1.0 / static_cast<double>(options.batch));
  b.output(loss, "loss");
  if (!options.is_trained) return graph;

  std::vector<Value> wrt;
  for (const Weight& weight : weights) wrt.push_back(weight.value);
  const std::vector<Value> grads = gradients(b, loss, wrt);
  const TensorType scalar{t, {}};
  const Value rate = b.input(InputKind::scalar, "learning_rate", scalar);
  const Value one = ops::constant(b, 1.0, scalar), half = ops::constant(b, 0.5, scalar);
  for (size_t i = 0; i < weights.size(); ++i) {
    const int m_number = static_cast<int>(graph.inputs.size());
    const Value m = b.input(InputKind::optimizer, weights[i].name + "/m", {t, weights[i].shape},
                            weights[i].logical);
    const Value v = b.input(InputKind::optimizer, weights[i].name + "/v", {t, weights[i].shape},
                            weights[i].logical);
    const ops::AdamWResult step =
        ops::adamw(b, {weights[i].value, m, v, grads[i], rate, one, half, half}, {});
    b.output(step.param, weights[i].name, static_cast<int>(2 + i));
    b.output(step.m, weights[i].name + "/m", m_number);
    b.output(step.v, weights[i].name + "/v", m_number + 1);
  }
  return graph;
}

}  // namespace tessera::testing
