// The collectives of one transformer block, by hand and by the partitioner: Megatron (Shoeybi et
// al., arXiv 1909.08053; Korthikanti et al., arXiv 2205.05198) and ZeRO (Rajbhandari et al., arXiv
// 1910.02054). Sizes are those of GPT-3's layers, where the textbook plan is the cheapest.
#include <gtest/gtest.h>

#include <map>

#include "core/base/error.h"
#include "models/training_step.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

constexpr int64_t kEmbed = 12288, kHeads = 96, kHeadDim = 128, kMlp = 4 * kEmbed, kLength = 2048;

models::StepConfig step_config(models::Family family, int64_t batch) {
  models::StepConfig config;
  const bool is_llama = family == models::Family::llama;
  config.model = {.family = family,
                  .layers = 2,
                  .embed = kEmbed,
                  .heads = kHeads,
                  .kv_heads = is_llama ? 8 : kHeads,
                  .head_dim = kHeadDim,
                  .mlp = kMlp,
                  .vocab = 50257,
                  .padded_vocab = 50304,
                  .context = kLength,
                  .tied_embeddings = !is_llama};
  config.compute = DType::bf16;
  config.clip_norm = 1;
  config.batch = batch;
  config.length = kLength;
  return config;
}

struct Sum {
  int64_t count = 0;
  int64_t bytes = 0;  // of the operands on one device
  bool operator==(const Sum&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Sum& sum) {
  return out << sum.count << " x, " << sum.bytes << " B";
}
using Table = std::map<std::string, Sum>;  // "all_reduce{model}"

// Those whose scope begins with `scope`, and is in the pass that is asked for.
Table collectives_in(const Graph& local, const std::string& scope) {
  Table table;
  for (const Instruction& instruction : local.instructions) {
    if (!instruction.op->communicates || instruction.operands.empty() ||
        instruction.scope.rfind(scope, 0) != 0)
      continue;
    Sum& sum =
        table[cat(instruction.op->name, "{",
                  print_axes(*local.mesh, instruction.attributes.get<AxisList>(Attr::axes)), "}")];
    ++sum.count;
    sum.bytes += local.type(instruction.operands[0]).bytes();
  }
  return table;
}

Graph plan(const Graph& graph, const char* mesh, const char* parameters, const char* activations,
           const char* optimizer = "") {
  PartitionOptions options;
  options.machine = machine_model("h100-nvlink-ib");
  options.bucket_bytes = 0;  // one collective per tensor, to count them
  return partition(graph, mesh_of(mesh), config_of(parameters, activations, optimizer), options);
}

constexpr const char* kTensor = "heads=model kv_heads=model mlp=model vocab=model";
constexpr const char* kTensorActivations =
    "batch=data heads=model kv_heads=model mlp=model vocab=model";
constexpr const char* kSequenceActivations =
    "batch=data heads=model kv_heads=model mlp=model vocab=model length=model";
constexpr const char* kSharded = "embed=data mlp=data heads=data kv_heads=data";

// Elements of the parameters of one GPT block: 4 attention weights, 2 MLP weights, the biases of
// all, and two norms.
constexpr int64_t kWeights = 4 * kEmbed * kEmbed + 2 * kEmbed * kMlp;
constexpr int64_t kBiases = 4 * kEmbed + kMlp + kEmbed;
constexpr int64_t kNorms = 4 * kEmbed;

TEST(CollectivesTable, DataParallel) {
  const Graph local = plan(models::build_step(step_config(models::Family::gpt2, 8), false),
                           "data=8", "", "batch=data");
  EXPECT_EQ(collectives_in(local, "block.1"),
            (Table{{"all_reduce{data}", {16, (kWeights + kBiases + kNorms) * 4}}}));
}

TEST(CollectivesTable, Zero1) {
  const Graph local = plan(models::build_step(step_config(models::Family::gpt2, 8), false),
                           "data=8", "", "batch=data", kSharded);
  EXPECT_EQ(collectives_in(local, "block.1"),
            (Table{{"reduce_scatter{data}", {12, (kWeights + kBiases) * 4}},
                   {"all_reduce{data}", {4, kNorms * 4}}}));
  // Each of the 2 x 12 updated tensors, and those of the embeddings, is gathered from its shards.
  EXPECT_EQ(collectives_in(local, "update").at("all_gather{data}").count, 2 * 12 + 2);
}

TEST(CollectivesTable, FullySharded) {
  const Graph local = plan(models::build_step(step_config(models::Family::gpt2, 8), false),
                           "data=8", kSharded, "batch=data");
  // Forward: weights and biases in bf16; backward: the weights again; gradients in f32.
  EXPECT_EQ(collectives_in(local, "block.1"),
            (Table{{"all_gather{data}", {12 + 6, (2 * kWeights + kBiases) * 2 / 8}},
                   {"reduce_scatter{data}", {12, (kWeights + kBiases) * 4}},
                   {"all_reduce{data}", {4, kNorms * 4}}}));
}

TEST(CollectivesTable, HybridSharded) {
  const Graph local = plan(models::build_step(step_config(models::Family::gpt2, 16), false),
                           "host=2,data=8", kSharded, "batch=host,data");
  EXPECT_EQ(collectives_in(local, "block.1"),
            (Table{{"all_gather{data}", {12 + 6, (2 * kWeights + kBiases) * 2 / 8}},
                   {"reduce_scatter{data}", {12, (kWeights + kBiases) * 4}},
                   {"all_reduce{host}", {12, (kWeights + kBiases) * 4 / 8}},
                   {"all_reduce{host,data}", {4, kNorms * 4}}}));
}

// Two all_reduces of the activations forward, two backward; gradients over data only.
TEST(CollectivesTable, TensorParallel) {
  for (const models::Family family : {models::Family::gpt2, models::Family::llama}) {
    const Graph local = plan(models::build_step(step_config(family, 4), false), "data=2,model=8",
                             kTensor, kTensorActivations);
    const int64_t activation = 2 * kLength * kEmbed * 2;
    const Table table = collectives_in(local, "block.1");
    EXPECT_EQ(table.at("all_reduce{model}"), (Sum{4, 4 * activation}));
    EXPECT_EQ(table.at("all_reduce{data}").count, family == models::Family::gpt2 ? 16 : 9);
    EXPECT_EQ(table.size(), 2u);
  }
}

// all_gather in front of and reduce_scatter behind both layers, the same backward; the inputs of
// the layers are gathered again for the gradients of the weights rather than kept.
TEST(CollectivesTable, TensorAndSequenceParallel) {
  for (const models::Family family : {models::Family::gpt2, models::Family::llama}) {
    const Graph local = plan(models::build_step(step_config(family, 4), false), "data=2,model=8",
                             kTensor, kSequenceActivations);
    const int64_t activation = 2 * kLength * kEmbed * 2;
    const Table table = collectives_in(local, "block.1");
    EXPECT_EQ(table.at("all_gather{model}"), (Sum{2 + 4, 6 * activation / 8}));
    EXPECT_EQ(table.at("reduce_scatter{model}"), (Sum{4, 4 * activation}));
    EXPECT_EQ(table.count("all_reduce{model}"), 0u);
    EXPECT_EQ(table.count("all_to_all{model}"), 0u);
    // Gradients of norms (and of biases behind a reduce_scatter) see a share of the tokens on both
    // axes.
    EXPECT_EQ(table.at("all_reduce{data,model}").count, family == models::Family::gpt2 ? 6 : 2);
  }
}

// Accumulating a microbatch sends no gradient at all under data parallelism, and a shard under
// ZeRO-3.
TEST(CollectivesTable, AccumulationDelaysReductions) {
  const models::StepConfig config = step_config(models::Family::gpt2, 8);
  const Graph data = plan(models::build_accumulate(config), "data=8", "", "batch=data");
  EXPECT_EQ(collectives_in(data, ""), Table{});
  const Graph last = plan(models::build_step(config, true), "data=8", "", "batch=data");
  EXPECT_EQ(collectives_in(last, "").at("all_reduce{data}").count,
            2 * 16 + 4 + 2);  // all parameters, loss, weight
  const Graph sharded = plan(models::build_accumulate(config), "data=8", kSharded, "batch=data");
  EXPECT_EQ(collectives_in(sharded, "block.1").at("reduce_scatter{data}").count, 12);
}

// A vocabulary sharded over model never gathers logits or table: only [tokens]-sized reductions.
TEST(CollectivesTable, VocabularyStaysSharded) {
  const Graph local = plan(models::build_step(step_config(models::Family::gpt2, 4), false),
                           "data=2,model=8", kTensor, kTensorActivations);
  const int64_t per_token = 2 * kLength * 4;
  const Table loss = collectives_in(local, "loss");
  // The maximum and the sum of exponentials; the target's logit is carried on into the scalar loss.
  EXPECT_EQ(loss.at("all_reduce{model}").bytes, 2 * per_token);
  EXPECT_EQ(loss.count("all_gather{model}"), 0u);
  EXPECT_EQ(collectives_in(local, "head").count("all_gather{model}"), 0u);
}

}  // namespace
}  // namespace tessera::testing
