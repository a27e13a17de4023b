// Steps with random draws: dropout, and states in bf16.
#include <gtest/gtest.h>

#include "core/ir/regions.h"
#include "core/ir/verifier.h"
#include "tests/models/test_model.h"

namespace tessera::models {
namespace {

HostTensor counter(int64_t value) { return HostTensor::filled({DType::s64, {}}, static_cast<double>(value)); }

StepConfig dropping_step(double rate = 0.3) {
  StepConfig config = tiny_step(Family::gpt2);
  config.model.dropout = rate;
  config.seed = 11;
  return config;
}

Tensors state_of(const StepConfig& config, const Graph& graph, int64_t step) {
  Tensors state;
  add_initial_state(config, graph, state);
  add_batch(config, 0, 0, state);
  add_scalars(config, 0, 0.02, state);
  state[names::kStep] = counter(step);
  state[names::kFirstRow] = counter(0);
  return state;
}

double loss_of(const StepConfig& config, int64_t step) {
  const Graph graph = build_step(config, false);
  verify(graph, GraphStage::built);
  Tensors state = state_of(config, graph, step);
  return run_graph(graph, state).at(names::kLoss).get_real(0);
}

TEST(DropoutInSteps, MasksFollowSeedAndStep) {
  const StepConfig config = dropping_step();
  StepConfig other = config;
  other.seed = 12;
  EXPECT_EQ(loss_of(config, 4), loss_of(config, 4));
  EXPECT_NE(loss_of(config, 4), loss_of(config, 5));
  EXPECT_NE(loss_of(config, 4), loss_of(other, 4));
  EXPECT_NE(loss_of(config, 4), loss_of(dropping_step(0), 4));
}

TEST(DropoutInSteps, RematerialisationDrawsTheSameMasks) {
  StepConfig config = dropping_step();
  const double kept = loss_of(config, 1);
  for (RematPolicy remat : {RematPolicy::dots, RematPolicy::full}) {
    config.remat = remat;
    const Graph graph = build_step(config, false);
    Tensors state = state_of(config, graph, 1), plain_state = state;
    const Tensors made = run_graph(graph, state);
    EXPECT_NEAR(made.at(names::kLoss).get_real(0), kept, 1e-14);
    config.remat = RematPolicy::none;
    const Tensors plain = run_graph(build_step(config, false), plain_state);
    EXPECT_NEAR(made.at(names::kGradNorm).get_real(0), plain.at(names::kGradNorm).get_real(0), 1e-13);
  }
}

// Microbatches are rows of the batch, with the masks of those rows.
TEST(DropoutInSteps, AccumulationEqualsOneLargeBatch) {
  const StepConfig small = dropping_step();
  StepConfig large = small;
  large.batch = 3 * small.batch;
  const Graph whole = build_step(large, false), accumulate = build_accumulate(small), last = build_step(small, true);
  Tensors a = state_of(large, whole, 6), b = state_of(small, last, 6);
  const Tensors one = run_graph(whole, a);
  Tensors three;
  for (int micro = 0; micro < 3; ++micro) {
    add_batch(small, 0, micro * small.batch, b);
    b[names::kFirstRow] = counter(micro * small.batch);
    three = run_graph(micro < 2 ? accumulate : last, b);
  }
  EXPECT_LT(max_relative_error(one.at(names::kLoss), three.at(names::kLoss)), 1e-12);
  EXPECT_LT(max_relative_error(one.at(names::kGradNorm), three.at(names::kGradNorm)), 1e-12);
}

TEST(DropoutInSteps, EvaluationDropsNothing) {
  EXPECT_TRUE(same_computation(build_evaluate(dropping_step()), build_evaluate(dropping_step(0))));
  EXPECT_TRUE(same_computation(build_predict(dropping_step()), build_predict(dropping_step(0))));
}

// The gradient norm against finite differences of the loss, with the mask held.
TEST(DropoutInSteps, GradientAgreesWithFiniteDifferences) {
  StepConfig config = dropping_step();
  config.z_loss = 0;
  config.clip_norm = 0;
  const Graph graph = build_step(config, false);
  const std::string name = "block.0.mlp.up.weight";
  const auto loss_at = [&](double shift) {
    Tensors state = state_of(config, graph, 2);
    HostTensor& weight = state.at(name);
    weight.set_real(3, weight.get_real(3) + shift);
    return run_graph(graph, state).at(names::kLoss).get_real(0);
  };
  // The gradient of one element: the first moment after one step is (1 - beta1) times it.
  Tensors state = state_of(config, graph, 2);
  run_graph(graph, state);
  const double gradient = state.at(names::first_moment(name)).get_real(3) / (1 - config.optimizer.beta1);
  EXPECT_NEAR(gradient, (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5, 1e-8);
}

// ---- States in bf16

TEST(NarrowStates, AreStoredAsSaid) {
  StepConfig config = tiny_step(Family::llama, DType::bf16);
  config.parameters = DType::bf16;
  config.moments = DType::bf16;
  const Graph graph = build_step(config, true);
  verify(graph, GraphStage::built);
  EXPECT_GE(graph.find_input(names::kStep), 0);
  for (const GraphInput& input : graph.inputs) {
    const TensorType& type = graph.type(input.value);
    const bool is_state = input.kind == InputKind::parameter || input.kind == InputKind::optimizer;
    if (is_state || input.kind == InputKind::accumulator) {
      EXPECT_EQ(type.dtype, is_state ? DType::bf16 : DType::f32);
    }
  }
  for (const ParameterSpec& spec : parameter_specs(config.model, config.compute, DType::bf16))
    EXPECT_EQ(spec.type.dtype, DType::bf16);
  config.stochastic_rounding = false;
  EXPECT_EQ(build_step(config, true).find_input(names::kStep), -1);
}

// Twelve steps of learning one batch by heart: within a few percent of f32, with either rounding of either state.
TEST(NarrowStates, LearnAlmostAsWell) {
  const auto last_loss = [](const StepConfig& config) {
    const Graph graph = build_step(config, false);
    Tensors state;
    double loss = 0;
    for (const ParameterSpec& spec : parameter_specs(config.model, config.compute, config.parameters))
      state[spec.name] = initial_values(spec, 7, std::vector<int64_t>(static_cast<size_t>(spec.type.rank()), 0), spec.type.shape);
    add_initial_state(config, graph, state);
    for (int64_t step = 0; step < 12; ++step) {
      add_batch(config, 0, 0, state);
      add_scalars(config, step, 0.02, state);
      state[names::kStep] = counter(step);
      loss = run_graph(graph, state).at(names::kLoss).get_real(0);
    }
    return loss;
  };
  StepConfig config = tiny_step(Family::gpt2, DType::f32);
  const double exact = last_loss(config);
  for (const auto& [parameters, moments] :
       {std::pair{DType::f32, DType::bf16}, {DType::bf16, DType::f32}, {DType::bf16, DType::bf16}}) {
    config.parameters = parameters;
    config.moments = moments;
    const double narrow = last_loss(config);
    EXPECT_NE(narrow, exact);
    EXPECT_NEAR(narrow, exact, 0.08 * exact) << parameters << " " << moments;
  }
}

}  // namespace
}  // namespace tessera::models
