// The collectives of one transformer block, exactly, derived by formula for every shipped scheme:
// Megatron (Shoeybi et al., arXiv 1909.08053; Korthikanti et al., arXiv 2205.05198), ZeRO
// (Rajbhandari et al., arXiv 1910.02054) and GSPMD's 2-D layout (Xu et al., arXiv 2105.04663, section
// 5.1). Sizes are those of GPT-3's layers, where the textbook plan is the cheapest; with fewer
// parameters per token other plans are, and are taken.
#include <gtest/gtest.h>

#include <map>

#include "core/base/error.h"
#include "models/training_step.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

constexpr int64_t kEmbed = 12288, kHeads = 96, kHeadDim = 128, kMlp = 4 * kEmbed, kLength = 2048;
constexpr int64_t kLlamaHeads = 8;  // keys and values

models::StepConfig step_config(models::Family family, int64_t batch) {
  models::StepConfig config;
  const bool is_llama = family == models::Family::llama;
  config.model = {.family = family,
                  .layers = 2,
                  .embed = kEmbed,
                  .heads = kHeads,
                  .kv_heads = is_llama ? kLlamaHeads : kHeads,
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

// How often each "all_reduce{model} 4096 B" occurs (bytes of the operand on one device).
using Multiset = std::map<std::string, int64_t>;

struct Expected {
  Multiset counts;
  void add(const char* collective, int64_t bytes, int64_t count = 1) {
    counts[cat(collective, " ", bytes, " B")] += count;
  }
};

// Of a block; what happens to its parameters in the update counts as its own.
Multiset collectives_of_block(const Graph& local, const std::string& block) {
  Multiset counts;
  std::map<Value, std::string> parameter_of;
  for (const GraphOutput& output : local.outputs) parameter_of[output.value] = output.name;
  for (size_t i = 0; i < local.instructions.size(); ++i) {
    const Instruction& instruction = local.instructions[i];
    if (!instruction.op->communicates || instruction.operands.empty()) continue;
    const bool is_of_block = instruction.scope.rfind(block, 0) == 0 ||
                             parameter_of[{static_cast<int>(i), 0}].rfind(block, 0) == 0;
    if (!is_of_block) continue;
    ++counts[cat(instruction.op->name, "{",
                 print_axes(*local.mesh, instruction.attributes.get<AxisList>(Attr::axes)), "} ",
                 local.type(instruction.operands[0]).bytes(), " B")];
  }
  return counts;
}

// A parameter of one block, by its number of elements.
struct Parameter {
  int64_t elements;
  enum Kind {
    weight,        // a matrix: one dim is embed, the other is cut over `model` in tensor parallelism
    inner_bias,    // along the dim that is cut over `model`
    outer_bias,    // along embed
    norm,
  } kind;
};

std::vector<Parameter> parameters_of_block(models::Family family) {
  const bool is_llama = family == models::Family::llama;
  const int64_t heads = kHeads * kHeadDim, kv = (is_llama ? kLlamaHeads : kHeads) * kHeadDim;
  std::vector<Parameter> all;
  for (int64_t inner : {heads, kv, kv, heads, kMlp, kMlp})
    all.push_back({inner * kEmbed, Parameter::weight});
  if (is_llama) {
    all.push_back({kMlp * kEmbed, Parameter::weight});  // the gate
    for (int i = 0; i < 2; ++i) all.push_back({kEmbed, Parameter::norm});
  } else {
    for (int64_t inner : {heads, kv, kv, kMlp}) all.push_back({inner, Parameter::inner_bias});
    for (int i = 0; i < 2; ++i) all.push_back({kEmbed, Parameter::outer_bias});
    for (int i = 0; i < 4; ++i) all.push_back({kEmbed, Parameter::norm});
  }
  return all;
}

constexpr int64_t kGradient = 4, kCompute = 2;  // bytes of an element
constexpr int64_t kModel = 8;

Graph plan(const models::StepConfig& config, const char* mesh, const char* parameters,
           const char* activations, const char* optimizer = "") {
  PartitionOptions options;
  options.machine = machine_model("h100-nvlink-ib");
  options.bucket_bytes = 0;  // one collective per tensor, to count them
  options.verify = false;
  return partition(models::build_step(config, false), mesh_of(mesh),
                   config_of(parameters, activations, optimizer), options);
}

constexpr const char* kTensorParallel = "heads=model kv_heads=model mlp=model vocab=model";
constexpr const char* kTensor2d = "heads=model kv_heads=model mlp=model vocab=model embed=data";
constexpr const char* kSharded = "embed=data mlp=data heads=data kv_heads=data";

class SchemeCollectives : public ::testing::TestWithParam<models::Family> {
 protected:
  bool is_gpt() const { return GetParam() == models::Family::gpt2; }
  std::vector<Parameter> parameters() const { return parameters_of_block(GetParam()); }
  models::StepConfig step(int64_t batch) const { return step_config(GetParam(), batch); }
  static std::string activations(const char* more) {
    return cat("batch=data ", kTensorParallel, " ", more);
  }
};

// Every gradient is summed over the replicas: P bytes of all_reduce.
TEST_P(SchemeCollectives, Data) {
  Expected expected;
  for (const Parameter& p : parameters()) expected.add("all_reduce{data}", p.elements * kGradient);
  EXPECT_EQ(collectives_of_block(plan(step(8), "data=8", "", "batch=data"), "block.1"),
            expected.counts);
}

// The same bytes in two halves: gradients are scattered, updated weights gathered.
TEST_P(SchemeCollectives, Zero1) {
  Expected expected;
  for (const Parameter& p : parameters()) {
    if (p.kind == Parameter::norm) {  // no rule cuts them
      expected.add("all_reduce{data}", p.elements * kGradient);
      continue;
    }
    expected.add("reduce_scatter{data}", p.elements * kGradient);
    expected.add("all_gather{data}", p.elements * kGradient / 8);
  }
  EXPECT_EQ(collectives_of_block(plan(step(8), "data=8", "", "batch=data", kSharded), "block.1"),
            expected.counts);
}

// ZeRO-3: weights are gathered twice in the compute dtype, gradients scattered in f32. Biases have
// no gradient that reads them, so they are gathered once.
void add_fully_sharded(const std::vector<Parameter>& parameters, Expected& expected) {
  for (const Parameter& p : parameters) {
    if (p.kind == Parameter::norm) continue;
    expected.add("all_gather{data}", p.elements * kCompute / 8,
                 p.kind == Parameter::weight ? 2 : 1);
    expected.add("reduce_scatter{data}", p.elements * kGradient);
  }
}

TEST_P(SchemeCollectives, FullySharded) {
  Expected expected;
  add_fully_sharded(parameters(), expected);
  for (const Parameter& p : parameters())
    if (p.kind == Parameter::norm) expected.add("all_reduce{data}", p.elements * kGradient);
  EXPECT_EQ(collectives_of_block(plan(step(8), "data=8", kSharded, "batch=data"), "block.1"),
            expected.counts);
}

// Inside a host as ZeRO-3; only shards of gradients cross hosts.
TEST_P(SchemeCollectives, HybridSharded) {
  Expected expected;
  add_fully_sharded(parameters(), expected);
  for (const Parameter& p : parameters())
    if (p.kind == Parameter::norm)
      expected.add("all_reduce{host,data}", p.elements * kGradient);
    else
      expected.add("all_reduce{host}", p.elements * kGradient / 8);
  EXPECT_EQ(collectives_of_block(plan(step(16), "host=2,data=8", kSharded, "batch=host,data"),
                                 "block.1"),
            expected.counts);
}

// Megatron: an all_reduce of the activations behind attention and behind the MLP, and the same
// behind their gradients.
TEST_P(SchemeCollectives, Tensor) {
  const int64_t activation = 2 * kLength * kEmbed * kCompute;
  Expected expected;
  expected.add("all_reduce{model}", activation, 4);
  for (const Parameter& p : parameters()) {
    const bool is_cut = p.kind == Parameter::weight || p.kind == Parameter::inner_bias;
    expected.add("all_reduce{data}", p.elements * kGradient / (is_cut ? kModel : 1));
  }
  EXPECT_EQ(collectives_of_block(plan(step(4), "data=2,model=8", kTensorParallel, activations("").c_str()),
                                 "block.1"),
            expected.counts);
}

// Each all_reduce becomes a reduce_scatter and an all_gather. The gathered inputs of the two
// layers are not kept for the gradients of their weights but gathered once more (Korthikanti et
// al., section 4.2.2), and parameters that meet every token on some device of `model` alone are
// reduced over it too.
TEST_P(SchemeCollectives, TensorAndSequence) {
  const int64_t activation = 2 * kLength * kEmbed * kCompute;
  Expected expected;
  expected.add("all_gather{model}", activation / kModel, 2 + 4);
  expected.add("reduce_scatter{model}", activation, 4);
  for (const Parameter& p : parameters())
    if (p.kind == Parameter::weight || p.kind == Parameter::inner_bias)
      expected.add("all_reduce{data}", p.elements * kGradient / kModel);
    else
      expected.add("all_reduce{data,model}", p.elements * kGradient);
  EXPECT_EQ(
      collectives_of_block(
          plan(step(4), "data=2,model=8", kTensorParallel, activations("length=model").c_str()), "block.1"),
      expected.counts);
}

// GSPMD's finalized layout: activations as with sequence parallelism, but cut along their width, so
// that norms exchange their statistics; weights as in ZeRO-3, each device holding a tile of both
// axes.
TEST_P(SchemeCollectives, TwoDimensional) {
  constexpr int64_t kData = 4, kBatch = 2 * kData;
  const int64_t tokens = kBatch / kData * kLength, activation = tokens * kEmbed * kCompute;
  Expected expected;
  expected.add("all_gather{model}", activation / kModel, 2 + 4);
  expected.add("reduce_scatter{model}", activation, 4);
  // A mean and a variance per row of each of two norms, and two sums in their gradients; one each
  // in a norm without mean.
  expected.add("all_reduce{model}", tokens * 4, 2 * (is_gpt() ? 4 : 2));
  for (const Parameter& p : parameters()) switch (p.kind) {
      case Parameter::weight:
        expected.add("all_gather{data}", p.elements * kCompute / (kData * kModel), 2);
        expected.add("reduce_scatter{data}", p.elements * kGradient / kModel);
        break;
      case Parameter::inner_bias:
        expected.add("all_reduce{data}", p.elements * kGradient / kModel);
        break;
      case Parameter::outer_bias:  // lies along `data`, is added along `model`
        expected.add("all_gather{data}", p.elements * kCompute / kData);
        expected.add("all_reduce{data}", p.elements * kGradient / kModel);
        expected.add("all_gather{model}", p.elements * kGradient / kModel);
        break;
      case Parameter::norm:  // lies whole, is updated in shards
        expected.add("all_reduce{data}", p.elements * kGradient / kModel);
        expected.add("all_gather{model}", p.elements * kGradient / kModel);
        break;
    }
  EXPECT_EQ(collectives_of_block(plan(step(kBatch), "data=4,model=8", kTensor2d,
                                      activations("embed=model").c_str()),
                                 "block.1"),
            expected.counts);
}

INSTANTIATE_TEST_SUITE_P(Families, SchemeCollectives,
                         ::testing::Values(models::Family::gpt2, models::Family::llama),
                         [](const auto& info) {
                           return info.param == models::Family::gpt2 ? "Gpt" : "Llama";
                         });

// Accumulating a microbatch sends no gradient at all under data parallelism, and a shard under
// ZeRO-3.
TEST(Accumulation, DelaysReductions) {
  const models::StepConfig config = step_config(models::Family::gpt2, 8);
  PartitionOptions options;
  options.machine = machine_model("h100-nvlink-ib");
  options.bucket_bytes = 0;
  auto count = [&](const Graph& graph, const char* parameters, std::string_view collective) {
    const Graph local =
        partition(graph, mesh_of("data=8"), config_of(parameters, "batch=data"), options);
    int count = 0;
    for (const Instruction& instruction : local.instructions)
      count += instruction.op->communicates && !instruction.operands.empty() &&
               (collective.empty() || instruction.op->name == collective);
    return count;
  };
  EXPECT_EQ(count(models::build_accumulate(config), "", ""), 0);
  EXPECT_EQ(count(models::build_step(config, true), "", "all_reduce"),
            2 * 16 + 4 + 2);  // all parameters, loss, weight
  EXPECT_GE(count(models::build_accumulate(config), kSharded, "reduce_scatter"), 2 * 12);
}

// A vocabulary sharded over model never gathers logits or table: only [tokens]-sized reductions.
TEST(Vocabulary, StaysSharded) {
  const Graph local = plan(step_config(models::Family::gpt2, 4), "data=2,model=8", kTensorParallel,
                           "batch=data heads=model kv_heads=model mlp=model vocab=model");
  const int64_t per_token = 2 * kLength * 4;
  Expected loss;
  // The maximum and the sum of exponentials; the target's logit is carried on into the scalar loss.
  loss.add("all_reduce{model}", per_token, 2);
  loss.add("all_reduce{data}", 4);
  loss.add("all_reduce{data,model}", 4);
  EXPECT_EQ(collectives_of_block(local, "loss"), loss.counts);
  Expected head;  // the gradient of the last activation, and the last norm
  head.add("all_reduce{model}", 2 * kLength * kEmbed * kCompute);
  head.add("all_reduce{data}", kEmbed * kGradient, 2);
  EXPECT_EQ(collectives_of_block(local, "head"), head.counts);
  Expected embedding;  // rows of the table by whoever has them
  embedding.add("all_reduce{model}", 2 * kLength * kEmbed * kCompute);
  // The gradient of the positions is the same on all devices of a host: each takes a share of it
  // across hosts.
  embedding.add("all_reduce{data}", kLength * kEmbed * kGradient / kModel);
  embedding.add("all_gather{model}", kLength * kEmbed * kGradient / kModel);
  EXPECT_EQ(collectives_of_block(local, "embedding"), embedding.counts);
}

}  // namespace
}  // namespace tessera::testing
