// Windows, biases by distance and separated documents in a decoder's step, in schemes that cut
// heads, the batch and the length, after every pass.
#include <gtest/gtest.h>

#include "models/training_step.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct Feature {
  const char* name;
  models::Family family;
  models::Position position;
  int64_t window, document_end;
};
const Feature kFeatures[] = {
    {"window", models::Family::llama, models::Position::rotary, 3, -1},
    {"documents", models::Family::gpt2, models::Position::learned, 0, 1},
    {"alibi", models::Family::llama, models::Position::alibi, 0, -1},
    {"relative", models::Family::gpt2, models::Position::relative, 0, -1},
    {"all", models::Family::llama, models::Position::relative, 5, 1},
};

struct AttentionScheme {
  const char* name;
  const char* mesh;
  const char* parameters;
  const char* activations;
};
constexpr const char* kByHeads = "heads=model kv_heads=model mlp=model vocab=model";
const AttentionScheme kAttentionSchemes[] = {
    {"tensor_sequence", "data=2,model=2", kByHeads,
     "batch=data heads=model kv_heads=model mlp=model vocab=model length=model"},
    // Attention itself has its queries cut.
    {"length", "sequence=4", "", "length=sequence"},
    {"heads_and_length", "sequence=2,model=2", kByHeads,
     "heads=model kv_heads=model mlp=model vocab=model length=sequence"},
    {"fsdp", "data=4", "embed=data mlp=data heads=data kv_heads=data positions=data", "batch=data"},
};

class AttentionFeatures : public ::testing::TestWithParam<std::tuple<AttentionScheme, Feature>> {};

TEST_P(AttentionFeatures, AreTheSameAfterEveryPass) {
  const auto& [scheme, feature] = GetParam();
  models::StepConfig config;
  config.model = {.family = feature.family, .layers = 2, .embed = 16, .heads = 4,
                  .kv_heads = feature.family == models::Family::llama ? 2 : 4, .head_dim = 4,
                  .mlp = 32, .vocab = 13, .padded_vocab = 16, .context = 16,
                  .tied_embeddings = false, .position = feature.position,
                  .attention_window = feature.window, .relative_buckets = 4,
                  .relative_max_distance = 6, .document_end = feature.document_end};
  config.compute = DType::f64;
  config.batch = 4;
  config.length = 8;
  const std::string failure =
      check_every_pass(models::build_step(config, false), mesh_of(scheme.mesh),
                       config_of(scheme.parameters, scheme.activations));
  EXPECT_TRUE(failure.empty()) << failure;
}

INSTANTIATE_TEST_SUITE_P(Schemes, AttentionFeatures,
                         ::testing::Combine(::testing::ValuesIn(kAttentionSchemes),
                                            ::testing::ValuesIn(kFeatures)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::get<1>(info.param).name;
                         });

}  // namespace
}  // namespace tessera::testing
