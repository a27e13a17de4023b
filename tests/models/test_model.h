// A small decoder and a way to run its graphs in the interpreter by names.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "core/ir/interpreter.h"
#include "models/training_step.h"

namespace tessera::models {

inline ModelConfig tiny_model(Family family) {
  ModelConfig model;
  model.family = family;
  model.layers = 2;
  model.embed = 8;
  model.heads = 4;
  model.kv_heads = family == Family::llama ? 2 : 4;
  model.head_dim = 2;
  model.mlp = 16;
  model.vocab = 11;
  model.padded_vocab = 16;
  model.context = 8;
  model.tied_embeddings = family == Family::gpt2;
  model.init_std = 0.3;
  return model;
}

inline StepConfig tiny_step(Family family, DType compute = DType::f64) {
  StepConfig step;
  step.model = tiny_model(family);
  step.compute = compute;
  step.batch = 4;
  step.length = 6;
  step.clip_norm = 0.5;
  step.z_loss = 1e-3;
  return step;
}

using Tensors = std::map<std::string, HostTensor>;

// Initial parameters and zero moments and accumulators for every input of `graph` that is one.
inline void add_initial_state(const StepConfig& config, const Graph& graph, Tensors& state) {
  std::map<std::string, ParameterSpec> specs;
  for (const ParameterSpec& spec : parameter_specs(config.model, config.compute)) specs[spec.name] = spec;
  for (const GraphInput& input : graph.inputs) {
    const ResultInfo& info = graph.info(input.value);
    if (state.count(info.name)) continue;
    if (input.kind == InputKind::parameter) {
      const std::vector<int64_t> start(static_cast<size_t>(info.type.rank()), 0);
      state[info.name] = initial_values(specs.at(info.name), /*seed=*/7, start, info.type.shape);
    } else if (input.kind == InputKind::optimizer || input.kind == InputKind::accumulator) {
      state[info.name] = HostTensor(info.type);
    }
  }
}

// A batch of tokens that only depends on `seed`; the last target of each row is padding.
inline void add_batch(const StepConfig& config, int64_t seed, int64_t first_row, Tensors& state) {
  const Shape shape{config.batch, config.length};
  HostTensor tokens({DType::s32, shape}), targets({DType::s32, shape});
  HostTensor weights({config.compute == DType::f64 ? DType::f64 : DType::f32, shape});
  for (int64_t row = 0; row < config.batch; ++row)
    for (int64_t i = 0; i < config.length; ++i) {
      const int64_t at = row * config.length + i;
      auto token = [&](int64_t place) {
        return ((first_row + row) * 5 + place * place * 3 + seed) % config.model.vocab;
      };
      tokens.set_int(at, token(i));
      targets.set_int(at, token(i + 1));
      weights.set_real(at, i + 1 < config.length ? 1 : 0);
    }
  state[names::kTokens] = tokens;
  state[names::kTargets] = targets;
  state[names::kWeights] = weights;
}

inline void add_scalars(const StepConfig& config, int64_t step, double rate, Tensors& state) {
  const DType dtype = config.compute == DType::f64 ? DType::f64 : DType::f32;
  auto scalar = [&](double value) { return HostTensor::filled({dtype, {}}, value); };
  state[names::kLearningRate] = scalar(rate);
  state[names::kBiasCorrection1] = scalar(1 - std::pow(config.optimizer.beta1, static_cast<double>(step + 1)));
  state[names::kBiasCorrection2] = scalar(1 - std::pow(config.optimizer.beta2, static_cast<double>(step + 1)));
}

// Runs `graph` on `state`; outputs come back by name, and those that alias an input replace it.
inline Tensors run_graph(const Graph& graph, Tensors& state) {
  std::vector<HostTensor> inputs;
  for (const GraphInput& input : graph.inputs) inputs.push_back(state.at(graph.info(input.value).name));
  std::vector<HostTensor> outputs = interpret(graph, inputs);
  Tensors result;
  for (size_t i = 0; i < outputs.size(); ++i) {
    result[graph.outputs[i].name] = outputs[i];
    if (graph.outputs[i].alias_input >= 0) state[graph.outputs[i].name] = outputs[i];
  }
  return result;
}

// One element of each parameter's gradient in `accumulate`, the graph of build_accumulate, against central
// differences of the loss at `state`.
inline void expect_gradients_of_differences(const StepConfig& config, const Graph& accumulate, Tensors state) {
  const Graph evaluate = build_evaluate(config);
  Tensors accumulated = state;
  run_graph(accumulate, accumulated);
  for (const ParameterSpec& spec : parameter_specs(config.model, config.compute)) {
    const int64_t at = spec.type.elements() / 3;
    const double delta = 1e-5, value = state.at(spec.name).get_real(at);
    auto loss_at = [&](double moved) {
      state.at(spec.name).set_real(at, moved);
      return run_graph(evaluate, state).at(names::kLossSum).get_real(0);
    };
    const double slope = (loss_at(value + delta) - loss_at(value - delta)) / (2 * delta);
    state.at(spec.name).set_real(at, value);
    EXPECT_NEAR(accumulated.at(names::accumulator(spec.name)).get_real(at), slope,
                1e-6 * std::max(1.0, std::abs(slope)))
        << spec.name;
  }
}

}  // namespace tessera::models
