// Windows, positions by distance and separated documents, as models use them.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/verifier.h"
#include "models/positions.h"
#include "tests/models/test_model.h"

namespace tessera::models {
namespace {

constexpr int64_t kEnd = 1;

StepConfig step_of(Position position, int64_t length = 8) {
  StepConfig config = tiny_step(Family::llama);
  config.model.position = position;
  config.z_loss = config.clip_norm = 0;
  config.batch = 1;
  config.length = length;
  return config;
}

// Tokens predict the tokens after them; the last one `last_target`.
Tensors state_of(const StepConfig& config, const Graph& graph, const std::vector<int64_t>& tokens,
                 int64_t last_target = kEnd) {
  Tensors state;
  add_initial_state(config, graph, state);
  add_batch(config, 0, 0, state);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    state.at(names::kTokens).set_int(at, tokens[i]);
    state.at(names::kTargets).set_int(at, i + 1 < tokens.size() ? tokens[i + 1] : last_target);
    state.at(names::kWeights).set_real(at, 1);
  }
  return state;
}

HostTensor logits_of(StepConfig config, const std::vector<int64_t>& tokens) {
  config.length = static_cast<int64_t>(tokens.size());
  const Graph graph = build_predict(config);
  Tensors state = state_of(config, graph, tokens);
  return run_graph(graph, state).at(names::kLogits);
}

double loss_of(StepConfig config, const std::vector<int64_t>& tokens) {
  config.length = static_cast<int64_t>(tokens.size());
  const Graph graph = build_evaluate(config);
  Tensors state = state_of(config, graph, tokens);
  return run_graph(graph, state).at(names::kLossSum).get_real(0);
}

// The rows of logits from `first` on that belong to `count` tokens.
HostTensor rows(const HostTensor& logits, int64_t first, int64_t count) {
  const std::vector<int64_t> start{0, first, 0};
  return logits.slice(start, {1, count, logits.shape()[2]});
}

const std::vector<int64_t> kFirst{kEnd, 5, 9, 2}, kSecond{kEnd, 7, 3, 3};
const std::vector<int64_t> kPacked{kEnd, 5, 9, 2, kEnd, 7, 3, 3};

std::string position_name(const testing::TestParamInfo<Position>& info) {
  return info.param == Position::rotary  ? "rotary"
         : info.param == Position::alibi ? "alibi"
                                         : "relative";
}

class ByDistance : public testing::TestWithParam<Position> {};
INSTANTIATE_TEST_SUITE_P(Positions, ByDistance,
                         testing::Values(Position::rotary, Position::alibi, Position::relative),
                         position_name);

// Where tokens stand in the sequence does not count, only how far apart they are: a document is
// predicted as it would be alone.
TEST_P(ByDistance, PackedDocumentsAreAsApart) {
  StepConfig config = step_of(GetParam());
  config.model.document_end = kEnd;
  const HostTensor packed = logits_of(config, kPacked);
  EXPECT_LT(max_relative_error(rows(packed, 0, 4), logits_of(config, kFirst), 1e-2), 1e-10);
  EXPECT_LT(max_relative_error(rows(packed, 4, 4), logits_of(config, kSecond), 1e-2), 1e-10);
  EXPECT_NEAR(loss_of(config, kPacked), loss_of(config, kFirst) + loss_of(config, kSecond), 1e-10);
  // Not so without the segments.
  config.model.document_end = -1;
  EXPECT_GT(max_relative_error(rows(logits_of(config, kPacked), 4, 4), logits_of(config, kSecond)),
            1e-3);
}

// Two layers with a window of 3 reach 4 tokens back.
TEST_P(ByDistance, AWindowHidesWhatIsFurtherBack) {
  StepConfig config = step_of(GetParam());
  std::vector<int64_t> other = kPacked;
  other[1] = 6;
  const auto change_at = [&](int64_t place) {
    return max_relative_error(rows(logits_of(config, kPacked), place, 1),
                              rows(logits_of(config, other), place, 1));
  };
  EXPECT_GT(change_at(7), 1e-4);
  config.model.attention_window = 3;
  EXPECT_GT(change_at(5), 1e-4);
  EXPECT_EQ(change_at(6), 0);
  EXPECT_EQ(change_at(7), 0);
  config.model.full_attention_interval = 2;  // the second layer sees all
  EXPECT_GT(change_at(7), 1e-4);
}

TEST_P(ByDistance, GradientAgreesWithFiniteDifferences) {
  StepConfig config = step_of(GetParam());
  config.model.attention_window = 5;
  config.model.document_end = kEnd;
  config.model.relative_buckets = 4;
  config.model.relative_max_distance = 6;
  const Graph accumulate = build_accumulate(config);
  expect_gradients_of_differences(config, accumulate, state_of(config, accumulate, {5, 9, 2, 4, 8, 10, kEnd, 3}));
}

// The gradient of a bias is worked out for a parameter alone.
TEST(AttentionFeatures, OnlyALearnedBiasHasAGradient) {
  const auto gradients_of = [](Position position) {
    const Graph graph = build_step(step_of(position), false);
    int64_t count = 0, biased = 0;
    for (const Instruction& instruction : graph.instructions)
      if (instruction.op && instruction.op->name == "attention_grad") {
        ++count;
        biased += instruction.attributes.flag(Attr::bias_gradient);
      }
    EXPECT_EQ(count, 2);
    return biased;
  };
  EXPECT_EQ(gradients_of(Position::alibi), 0);
  EXPECT_EQ(gradients_of(Position::relative), 2);
}

// Scores are f32 whatever the parameters are stored in, and activations computed in.
TEST(AttentionFeatures, BiasesOfNarrowModels) {
  for (Position position : {Position::alibi, Position::relative}) {
    StepConfig config = step_of(position);
    config.compute = config.parameters.emplace(DType::bf16);
    config.model.document_end = kEnd;
    const Graph graph = build_step(config, false);
    verify(graph, GraphStage::built);
    for (const Instruction& instruction : graph.instructions) {
      if (!instruction.op || instruction.op->name != "attention") continue;
      EXPECT_EQ(graph.info(instruction.operands[3]).type.dtype, DType::f32);
    }
  }
}

TEST(AttentionFeatures, AnyFamilyTakesAnyPosition) {
  const auto names_of = [](Family family, Position position) {
    ModelConfig model = tiny_model(family);
    model.position = position;
    std::vector<std::string> names;
    for (const ParameterSpec& spec : parameter_specs(model, DType::f32)) names.push_back(spec.name);
    return join(names, " ");
  };
  for (Family family : {Family::gpt2, Family::llama}) {
    EXPECT_NE(names_of(family, Position::learned).find(" positions.weight"), std::string::npos);
    EXPECT_EQ(names_of(family, Position::rotary).find("positions"), std::string::npos);
    EXPECT_EQ(names_of(family, Position::alibi).find("positions"), std::string::npos);
    EXPECT_NE(names_of(family, Position::relative).find("relative_positions.weight"),
              std::string::npos);
  }
}

TEST(AttentionFeatures, SlopesOfAlibi) {
  EXPECT_EQ(alibi_slopes(8), (std::vector<double>{0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625,
                                                  0.0078125, 0.00390625}));
  // The authors' get_slopes(6): those of 4, then the first, third, ... of 8.
  EXPECT_EQ(alibi_slopes(6),
            (std::vector<double>{0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125}));
  EXPECT_EQ(alibi_slopes(1), (std::vector<double>{0.00390625}));
}

TEST(AttentionFeatures, BucketsOfT5) {
  const auto bucket = [](int64_t distance) { return relative_bucket(distance, 32, 128); };
  for (int64_t d = 0; d < 16; ++d) EXPECT_EQ(bucket(d), d);
  EXPECT_EQ(bucket(16), 16);
  EXPECT_EQ(bucket(20), 17);
  EXPECT_EQ(bucket(32), 21);
  EXPECT_EQ(bucket(64), 26);
  EXPECT_EQ(bucket(112), 30);
  EXPECT_EQ(bucket(127), 31);
  EXPECT_EQ(bucket(128), 31);
  EXPECT_EQ(bucket(5000), 31);
  for (int64_t d = 1; d < 200; ++d) EXPECT_LE(bucket(d - 1), bucket(d));
  EXPECT_EQ(relative_bucket(0, 2, 8), 0);
  EXPECT_EQ(relative_bucket(1, 2, 8), 1);
  EXPECT_EQ(relative_bucket(100, 2, 8), 1);
}

TEST(AttentionFeatures, AWindowCountsItsPairsAlone) {
  ModelConfig model = tiny_model(Family::gpt2);
  const double all = train_flops_per_token(model, 1024);
  const double width = static_cast<double>(model.heads * model.head_dim);
  model.attention_window = 256;
  // Keys per token: 512 against 256 - 32, in each of two layers; 12 operations a key and element.
  EXPECT_DOUBLE_EQ(all - train_flops_per_token(model, 1024), 12 * width * 2 * (512 - 224));
  model.full_attention_interval = 2;
  EXPECT_DOUBLE_EQ(all - train_flops_per_token(model, 1024), 12 * width * (512 - 224));
}

TEST(AttentionFeatures, ErrorsOfTheConfig) {
  ModelConfig model = tiny_model(Family::gpt2);
  model.attention_window = -3;
  model.full_attention_interval = -1;
  model.position = Position::relative;
  model.relative_buckets = 1;
  model.document_end = 11;
  try {
    validate(model);
    FAIL();
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    for (const char* part :
         {"model.attention_window is -3; it must be at least 0",
          "model.full_attention_interval is -1; it must be at least 0",
          "model.relative_buckets is 1; it must be at least 2",
          "the token that ends documents is 11, outside a vocabulary of 11"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace tessera::models
