// The collectives of each preset equal figures derived by hand.
//
// The model: 3 GPT blocks, f32. Its tokens a device are many for its width, so that moving weights is
// cheaper than moving activations, as in real data parallel training; under tensor_sequence, where
// activations travel, it is the other way round.
#include <gtest/gtest.h>

#include "tests/plan/plan_testing.h"

namespace tessera::plan_testing {
namespace {

constexpr int64_t kLayers = 3, kEmbed = 64, kHeads = 4, kMlp = 256, kLength = 64, kBatch = 64;
constexpr int64_t kVocab = 384;  // 259 padded
constexpr int64_t kF32 = 4;

// Without buckets, so that collectives can be counted by tensor.
const std::vector<std::string> kModel = {"model.layers=3",           "model.embed=64",
                                         "model.heads=4",            "train.sequence_length=64",
                                         "train.global_batch=64",    "train.bucket_bytes=1"};

// Parameters in bytes, by what the shipped rules do with them.
constexpr int64_t kNorms = (4 * kLayers + 2) * kEmbed * kF32;  // gains and biases: never sharded
constexpr int64_t kTable = kVocab * kEmbed * kF32;
constexpr int64_t kPositions = kLength * kEmbed * kF32;
constexpr int64_t kMatrices = kLayers * (4 * kEmbed * kEmbed + 2 * kEmbed * kMlp) * kF32;
constexpr int64_t kBiases = kLayers * (5 * kEmbed + kMlp) * kF32;
constexpr int64_t kAll = kNorms + kTable + kPositions + kMatrices + kBiases;
constexpr int64_t kSums = 2 * kF32;  // loss and token count
constexpr int64_t kNorm = kF32;      // squares of sharded gradients, for clipping

Json plan_of(const std::string& preset, const std::string& mesh) { return run(quickstart(preset, mesh, kModel)).json; }

TEST(PlanCollectives, DataParallelReducesEveryGradientOnce) {
  const Json plan = plan_of("data", "data=4");
  EXPECT_EQ(plan.at("collectives").size(), 1u);
  EXPECT_EQ(entry(plan, "all_reduce", "data").bytes, kAll + kSums);
  EXPECT_EQ(memory(plan, "parameters"), kAll);
  EXPECT_EQ(memory(plan, "optimizer"), 2 * kAll);
}

// ZeRO-1: the bytes of an all_reduce, as a reduce_scatter and a gather of the updated shards.
TEST(PlanCollectives, Zero1ScattersGradientsAndGathersWeights) {
  const Json plan = plan_of("zero1", "data=4");
  const int64_t sharded = kAll - kNorms;
  EXPECT_EQ(entry(plan, "reduce_scatter", "data").bytes, sharded);
  EXPECT_EQ(entry(plan, "all_gather", "data").bytes, sharded / 4);  // operands: one shard
  EXPECT_EQ(entry(plan, "all_reduce", "data").bytes, kNorms + kSums + kNorm);
  EXPECT_EQ(memory(plan, "parameters"), kAll);
  EXPECT_EQ(memory(plan, "optimizer"), 2 * (sharded / 4 + kNorms));
}

// ZeRO-3: weights are gathered in the forward and again in the backward pass. Biases and positions are
// added, so their backward needs no weights.
TEST(PlanCollectives, FsdpGathersWeightsTwice) {
  const Json plan = plan_of("fsdp", "data=4");
  const int64_t sharded = kAll - kNorms;
  EXPECT_EQ(entry(plan, "all_gather", "data").bytes, (2 * sharded - kBiases - kPositions) / 4);
  EXPECT_EQ(entry(plan, "reduce_scatter", "data").bytes, sharded);
  EXPECT_EQ(entry(plan, "all_reduce", "data").bytes, kNorms + kSums + kNorm);
  EXPECT_EQ(memory(plan, "parameters"), sharded / 4 + kNorms);
  EXPECT_EQ(plan.at("collectives").size(), 3u);
  // Of one layer: 6 matrices twice and 6 biases once; every gradient once.
  const Entry gathers = entry(plan, "all_gather", "data"), scatters = entry(plan, "reduce_scatter", "data");
  EXPECT_EQ(gathers.layer_count, 18);
  EXPECT_EQ(gathers.layer_bytes, (2 * kMatrices + kBiases) / kLayers / 4);
  EXPECT_EQ(scatters.layer_bytes, (kMatrices + kBiases) / kLayers);
}

// As FSDP inside a host; between hosts only gradient shards travel.
TEST(PlanCollectives, HsdpReducesShardsBetweenHosts) {
  const Json plan = plan_of("hsdp", "host=2,data=2");
  const int64_t sharded = kAll - kNorms;
  EXPECT_EQ(entry(plan, "all_gather", "data").bytes, (2 * sharded - kBiases - kPositions) / 2);
  EXPECT_EQ(entry(plan, "reduce_scatter", "data").bytes, sharded);
  EXPECT_EQ(entry(plan, "all_reduce", "host").bytes, sharded / 2);
  EXPECT_EQ(entry(plan, "all_reduce", "host,data").bytes, kNorms + kSums);
}

// Megatron-LM: two all_reduces of activations in the forward and two in the backward pass of a layer.
TEST(PlanCollectives, TensorParallelReducesActivationsFourTimesALayer) {
  const Json plan = plan_of("tensor", "data=2,model=2");
  constexpr int64_t tokens = kBatch * kLength / 2;  // of one device
  constexpr int64_t activation = tokens * kEmbed * kF32;
  const Entry reduce = entry(plan, "all_reduce", "model");
  EXPECT_EQ(reduce.layer_count, 4);
  EXPECT_EQ(reduce.layer_bytes, 4 * activation);
  // The last one of the first layer's backward pass waits for the embedding table's gradient, which
  // is smaller than the activation; the head's backward pass adds one. The loss needs the maximum
  // and the sum of each token's logits, the clipping one number.
  EXPECT_EQ(reduce.count, 4 * kLayers - 1 + 1 + 2 + 1);
  EXPECT_EQ(reduce.bytes, 4 * kLayers * activation + 2 * tokens * kF32 + kNorm);
  // The vocabulary-cut table is smaller than the activations, so it is gathered once for the lookup
  // instead of reducing the looked-up rows, and its gradient is scattered back.
  EXPECT_EQ(entry(plan, "all_gather", "model").bytes, kTable / 2);
  EXPECT_EQ(entry(plan, "reduce_scatter", "model").bytes, kTable);
  // Every gradient crosses `data` once, as its shard.
  EXPECT_EQ(bytes_over(plan, "all_reduce", "data"), memory(plan, "parameters") + kSums);
  EXPECT_EQ(entry(plan, "all_to_all", "model").count, 0);
}

TEST(PlanCollectives, LlamaUnderTensorParallelIsTheSame) {
  PlanArguments arguments = quickstart("tensor", "data=2,model=2");
  arguments.job.job = source_path("launch/configs/llama-tiny.textproto");
  const Json plan = run(arguments).json;
  constexpr int64_t activation = 32 / 2 * 128 * 128 * kF32;
  EXPECT_EQ(entry(plan, "all_reduce", "model").layer_count, 4);
  EXPECT_EQ(entry(plan, "all_reduce", "model").layer_bytes, 4 * activation);
  EXPECT_EQ(bytes_over(plan, "all_reduce", "data"), memory(plan, "parameters") + kSums);
}

// Korthikanti et al. 2022, section 4.2: each all_reduce becomes a reduce_scatter and an all_gather, and
// the backward pass gathers the two norm outputs again instead of keeping them whole.
TEST(PlanCollectives, SequenceParallelGathersAndScattersPairs) {
  PlanArguments arguments = quickstart("tensor_sequence", "data=1,model=2",
                                       {"model.layers=3", "model.embed=512", "model.heads=4",
                                        "train.sequence_length=32", "train.global_batch=4"});
  arguments.profile = "h100-nvlink-ib";
  const Json plan = run(arguments).json;
  constexpr int64_t activation = 4 * 32 * 512 * kF32;
  const Entry gathers = entry(plan, "all_gather", "model"), scatters = entry(plan, "reduce_scatter", "model");
  EXPECT_EQ(gathers.layer_count, 2 + 2 + 2);
  EXPECT_EQ(gathers.layer_bytes, 6 * activation / 2);
  EXPECT_EQ(scatters.layer_count, 2 + 2);
  EXPECT_EQ(scatters.layer_bytes, 4 * activation);
}

// Xu et al. 2021 (GSPMD), the finalized 2-D layout: weights are gathered along `data` in both passes,
// gradients scattered along it.
TEST(PlanCollectives, TwoDimensionalWeightsTravelAlongData) {
  const Json plan = plan_of("2d", "data=2,model=2");
  EXPECT_EQ(entry(plan, "all_gather", "data").layer_count, 12);
  EXPECT_EQ(entry(plan, "all_gather", "data").layer_bytes, 2 * kMatrices / kLayers / 4);
  EXPECT_EQ(entry(plan, "reduce_scatter", "data").layer_count, 6);
  EXPECT_EQ(entry(plan, "reduce_scatter", "data").layer_bytes, kMatrices / kLayers / 2);
}

// Everything between the products is kept once: two norm outputs, two residuals, q, k, v, the attention
// output, the feed-forward layer before and after its activation; for the norms mean and 1/deviation
// of each token, for attention (flash: Dao et al. 2022) one number a token and head.
TEST(PlanActivations, TensorParallelKeepsTheFlashFormula) {
  const Json plan = plan_of("tensor", "data=2,model=2");
  constexpr int64_t tokens = kBatch * kLength / 2;
  constexpr int64_t whole = 4 * kEmbed, cut = (4 * kEmbed + 2 * kMlp) / 2, statistics = 4 + kHeads / 2;
  EXPECT_EQ(plan.at("saved_activations_per_layer").at("block.1"), tokens * (whole + cut + statistics) * kF32);
}

TEST(PlanActivations, FullRematerialisationKeepsTheBlockInputOnly) {
  std::vector<std::string> sets = kModel;
  sets.push_back("train.remat=full");
  const Json plan = run(quickstart("tensor", "data=2,model=2", sets)).json;
  EXPECT_EQ(plan.at("saved_activations_per_layer").at("block.1"), kBatch * kLength / 2 * kEmbed * kF32);
}

// Fully sharded training gathers weights for the forward and again for the backward pass, unless memory
// allows to keep some; where products are quick beside the wires that makes the step faster.
TEST(PlanCollectives, MemoryOfADeviceKeepsGatheredWeights) {
  auto plan = [](int64_t memory_bytes) {
    PlanArguments arguments = quickstart("fsdp", "data=4", kModel);
    arguments.job.sets.push_back(cat("train.memory_bytes=", memory_bytes));
    arguments.profile = "a100-nvlink-ib";
    return run(arguments).json;
  };
  const Json lean = plan(0), large = plan(int64_t{1} << 36);
  EXPECT_LT(entry(large, "all_gather", "data").bytes, entry(lean, "all_gather", "data").bytes);
  EXPECT_EQ(entry(large, "reduce_scatter", "data").bytes, entry(lean, "reduce_scatter", "data").bytes);
  EXPECT_LT(large.at("predicted_step_seconds").get<double>(), lean.at("predicted_step_seconds").get<double>());
}

}  // namespace
}  // namespace tessera::plan_testing
