// The step of a small decoder, in every shipped scheme, after every pass.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "models/training_step.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

models::StepConfig small_step(models::Family family) {
  models::StepConfig config;
  config.model = {.family = family,
                  .layers = 2,
                  .embed = 16,
                  .heads = 4,
                  .kv_heads = family == models::Family::llama ? 2 : 4,
                  .head_dim = 4,
                  .mlp = 32,
                  .vocab = 13,
                  .padded_vocab = 16,
                  .context = 16,
                  .tied_embeddings = family == models::Family::gpt2};
  config.compute = DType::f64;
  config.clip_norm = 1;
  config.z_loss = 1e-3;
  config.batch = 4;
  config.length = 8;
  return config;
}

struct DecoderScheme {
  const char* name;
  const char* mesh;
  const char* parameters;
  const char* activations;
  const char* optimizer;
};

constexpr const char* kTensor = "heads=model kv_heads=model mlp=model vocab=model";
const DecoderScheme kDecoderSchemes[] = {
    {"data", "data=2", "", "batch=data", ""},
    {"zero1", "data=2", "", "batch=data", "embed=data mlp=data heads=data kv_heads=data"},
    {"fsdp", "data=2", "embed=data mlp=data heads=data kv_heads=data", "batch=data", ""},
    {"hsdp", "host=2,data=2", "embed=data mlp=data heads=data kv_heads=data", "batch=host,data",
     ""},
    {"tensor", "data=2,model=2", kTensor,
     "batch=data heads=model kv_heads=model mlp=model vocab=model", ""},
    {"tensor_sequence", "data=2,model=2", kTensor,
     "batch=data heads=model kv_heads=model mlp=model vocab=model length=model", ""},
    {"2d", "data=2,model=2", "heads=model kv_heads=model mlp=model vocab=model embed=data",
     "batch=data heads=model kv_heads=model mlp=model vocab=model embed=model", ""},
};

class Decoder : public ::testing::TestWithParam<std::tuple<DecoderScheme, models::Family>> {};

TEST_P(Decoder, IsTheSameAfterEveryPass) {
  const auto& [scheme, family] = GetParam();
  const models::StepConfig config = small_step(family);
  const std::pair<const char*, Graph> graphs[] = {
      {"step", models::build_step(config, false)},
      {"accumulate", models::build_accumulate(config)},
      {"step with accumulators", models::build_step(config, true)}};
  for (const auto& [name, graph] : graphs) {
    PartitionReport report;
    const std::string failure = check_every_pass(
        graph, mesh_of(scheme.mesh),
        config_of(scheme.parameters, scheme.activations, scheme.optimizer), {}, 1e-10, 1, &report);
    EXPECT_TRUE(failure.empty()) << name << ": " << failure;
    EXPECT_EQ(report.reshard_fallbacks, 0);
  }
}

// More devices on the heads' axis than there are key heads: the axis is split between key heads and
// the query heads of each.
TEST(DecoderGroupedHeads, IsTheSameAfterEveryPass) {
  ShardingConfig config =
      config_of(kTensor, "batch=data heads=model kv_heads=model mlp=model vocab=model");
  for (auto* rules : {&config.parameter_rules, &config.activation_rules})
    for (AxisRule& rule : *rules) rule.if_divides = rule.logical == "kv_heads";
  PartitionReport report;
  const std::string failure =
      check_every_pass(models::build_step(small_step(models::Family::llama), false),
                       mesh_of("data=2,model=4"), config, {}, 1e-10, 1, &report);
  EXPECT_TRUE(failure.empty()) << failure;
  EXPECT_FALSE(report.warnings.empty());
}

// Recomputed instructions are sharded and checked like any others.
TEST(DecoderRemat, IsTheSameAfterEveryPass) {
  models::StepConfig config = small_step(models::Family::gpt2);
  config.remat = RematPolicy::full;
  for (const DecoderScheme& scheme : {kDecoderSchemes[2], kDecoderSchemes[5]}) {
    const std::string failure =
        check_every_pass(models::build_step(config, false), mesh_of(scheme.mesh),
                         config_of(scheme.parameters, scheme.activations, scheme.optimizer));
    EXPECT_TRUE(failure.empty()) << scheme.name << ": " << failure;
  }
}

// Draws are functions of the place in the whole tensor: the same on every mesh, to the last bit.
TEST(DecoderDraws, AreTheSameAfterEveryPass) {
  models::StepConfig config = small_step(models::Family::gpt2);
  config.model.dropout = 0.2;
  config.moments = DType::bf16;
  config.parameters = DType::bf16;
  config.seed = 3;
  config.remat = RematPolicy::full;
  for (const DecoderScheme& scheme : kDecoderSchemes) {
    const std::string failure =
        check_every_pass(models::build_step(config, true), mesh_of(scheme.mesh),
                         config_of(scheme.parameters, scheme.activations, scheme.optimizer));
    EXPECT_TRUE(failure.empty()) << scheme.name << ": " << failure;
  }
}

// bf16 activations: collectives may round differently, so only roughly equal.
TEST(DecoderBf16, IsRoughlyTheSameAfterEveryPass) {
  models::StepConfig config = small_step(models::Family::llama);
  config.compute = DType::bf16;
  config.clip_norm = 0;
  const DecoderScheme& scheme = kDecoderSchemes[6];
  const std::string failure =
      check_every_pass(models::build_accumulate(config), mesh_of(scheme.mesh),
                       config_of(scheme.parameters, scheme.activations, scheme.optimizer), {}, 0.1);
  EXPECT_TRUE(failure.empty()) << failure;
}

INSTANTIATE_TEST_SUITE_P(Schemes, Decoder,
                         ::testing::Combine(::testing::ValuesIn(kDecoderSchemes),
                                            ::testing::Values(models::Family::gpt2,
                                                              models::Family::llama)));

}  // namespace
}  // namespace tessera::testing
