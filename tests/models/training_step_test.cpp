#include "models/training_step.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/verifier.h"
#include "tests/models/test_model.h"

namespace tessera::models {
namespace {

class Families : public testing::TestWithParam<Family> {};
INSTANTIATE_TEST_SUITE_P(All, Families, testing::Values(Family::gpt2, Family::llama),
                         [](const auto& info) { return info.param == Family::gpt2 ? "gpt2" : "llama"; });

std::vector<double> losses(const StepConfig& config, int steps) {
  const Graph graph = build_step(config, false);
  verify(graph, GraphStage::built);
  Tensors state;
  add_initial_state(config, graph, state);
  std::vector<double> result;
  for (int step = 0; step < steps; ++step) {
    add_batch(config, 0, 0, state);
    add_scalars(config, step, 0.02, state);
    result.push_back(run_graph(graph, state).at(names::kLoss).get_real(0));
  }
  return result;
}

TEST_P(Families, LearnsOneBatchByHeart) {
  const std::vector<double> curve = losses(tiny_step(GetParam()), 40);
  EXPECT_NEAR(curve.front(), std::log(11.0), 1.0);
  EXPECT_LT(curve.back(), 0.4 * curve.front());
}

TEST_P(Families, RematerialisationChangesNothing) {
  StepConfig config = tiny_step(GetParam());
  const std::vector<double> kept = losses(config, 4);
  for (RematPolicy policy : {RematPolicy::full, RematPolicy::dots}) {
    config.remat = policy;
    EXPECT_EQ(losses(config, 4), kept);
  }
}

TEST_P(Families, FullRematerialisationRecomputesBlocks) {
  StepConfig config = tiny_step(GetParam());
  auto recomputed = [&](RematPolicy policy, bool dots) {
    config.remat = policy;
    int count = 0;
    for (const Instruction& instruction : build_step(config, false).instructions)
      count += instruction.recompute && (!dots || instruction.op->name == "dot_general");
    return count;
  };
  EXPECT_EQ(recomputed(RematPolicy::none, false), 0);
  EXPECT_GT(recomputed(RematPolicy::full, true), 0);
  EXPECT_GT(recomputed(RematPolicy::dots, false), 0);
  EXPECT_EQ(recomputed(RematPolicy::dots, true), 0);
}

TEST_P(Families, LowPrecisionFollowsTheSameCurve) {
  const std::vector<double> exact = losses(tiny_step(GetParam()), 8);
  const std::vector<double> single = losses(tiny_step(GetParam(), DType::f32), 8);
  const std::vector<double> half = losses(tiny_step(GetParam(), DType::bf16), 8);
  for (size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NEAR(single[i], exact[i], 1e-4 * exact[i]);
    EXPECT_NEAR(half[i], exact[i], 0.05 * exact[i]);
  }
}

TEST_P(Families, AccumulationEqualsOneLargeBatch) {
  StepConfig small = tiny_step(GetParam());
  StepConfig large = small;
  large.batch = 3 * small.batch;
  const Graph whole = build_step(large, false);
  const Graph accumulate = build_accumulate(small), last = build_step(small, true);
  verify(accumulate, GraphStage::built);
  Tensors a, b;
  add_initial_state(large, whole, a);
  add_initial_state(small, last, b);
  add_batch(large, 0, 0, a);
  add_scalars(large, 0, 0.02, a);
  add_scalars(small, 0, 0.02, b);
  const Tensors one = run_graph(whole, a);
  for (int micro = 0; micro < 2; ++micro) {
    add_batch(small, 0, micro * small.batch, b);
    run_graph(accumulate, b);
  }
  add_batch(small, 0, 2 * small.batch, b);
  const Tensors three = run_graph(last, b);
  EXPECT_LT(max_relative_error(one.at(names::kLoss), three.at(names::kLoss)), 1e-12);
  EXPECT_LT(max_relative_error(one.at(names::kGradNorm), three.at(names::kGradNorm)), 1e-12);
  // A key bias shifts all scores of a query alike, so its gradient is zero but for rounding, which
  // AdamW divides by epsilon: hence the floor.
  for (const ParameterSpec& spec : parameter_specs(small.model, small.compute))
    EXPECT_LT(max_relative_error(a.at(spec.name), b.at(spec.name), 1e-2), 1e-9) << spec.name;
}

TEST_P(Families, ABadStepChangesNothing) {
  const StepConfig config = tiny_step(GetParam());
  const Graph graph = build_step(config, false);
  Tensors state;
  add_initial_state(config, graph, state);
  add_batch(config, 0, 0, state);
  add_scalars(config, 0, 0.02, state);
  state.at("final_norm.gain").set_real(0, std::numeric_limits<double>::infinity());
  const Tensors before = state;
  const Tensors result = run_graph(graph, state);
  EXPECT_FALSE(std::isfinite(result.at(names::kGradNorm).get_real(0)));
  for (const auto& [name, tensor] : before) EXPECT_EQ(state.at(name), tensor) << name;
}

// The step's gradient norm against finite differences of the evaluated loss along one direction.
TEST_P(Families, GradientAgreesWithFiniteDifferences) {
  StepConfig config = tiny_step(GetParam());
  config.z_loss = 0;
  config.clip_norm = 0;
  config.batch = 2;
  const Graph accumulate = build_accumulate(config);
  Tensors state;
  add_initial_state(config, accumulate, state);
  add_batch(config, 3, 0, state);
  expect_gradients_of_differences(config, accumulate, std::move(state));
}

TEST(Decoder, CountsTheParametersOfGpt2) {
  ModelConfig model;
  model.layers = 12;
  model.embed = 768;
  model.heads = model.kv_heads = 12;
  model.head_dim = 64;
  model.mlp = 3072;
  model.vocab = 50257;
  model.padded_vocab = 50304;
  model.context = 1024;
  EXPECT_EQ(parameter_count(parameter_specs(model, DType::f32)), 124439808);
}

TEST(Decoder, InitialValuesDoNotDependOnTheCut) {
  const ParameterSpec spec = parameter_specs(tiny_model(Family::gpt2), DType::f32).front();
  const HostTensor whole = initial_values(spec, 1, std::vector<int64_t>{0, 0}, spec.type.shape);
  const std::vector<int64_t> start{6, 2};
  const Shape block{8, 4};
  EXPECT_EQ(initial_values(spec, 1, start, block), whole.slice(start, block));
  // Rows past the vocabulary are padding and stay zero.
  for (int64_t row = 11; row < 16; ++row) EXPECT_EQ(whole.get_real(row * 8), 0.0);
}

TEST(ModelConfigErrors, AllAtOnce) {
  ModelConfig model = tiny_model(Family::llama);
  model.kv_heads = 3;
  model.head_dim = 3;
  try {
    validate(model);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("model.heads (4) must be a multiple of model.kv_heads (3)"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("model.head_dim is 3"), std::string::npos);
  }
}

TEST(ModelConfigErrors, SequenceLongerThanContext) {
  StepConfig config = tiny_step(Family::gpt2);
  config.length = 9;
  try {
    build_evaluate(config);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "a sequence of 9 tokens does not fit model.context = 8");
  }
}

}  // namespace
}  // namespace tessera::models
