#include "partitioner/bucket_shards.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/runtime/sharded_interpreter.h"
#include "models/training_step.h"
#include "partitioner/localize.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

// "all_reduce [8]; all_gather [1,12]": collectives with the shapes of their operands.
std::string collectives_in(const Graph& local) {
  std::vector<std::string> found;
  for (const Instruction& instruction : local.instructions)
    if (instruction.op->communicates && !instruction.operands.empty())
      found.push_back(cat(instruction.op->name, " ", local.type(instruction.operands[0]).shape));
  return join(found, "; ");
}

struct BucketProgram : MeshProgram {
  using MeshProgram::MeshProgram;

  Value in(Shape shape, const char* sharding, InputKind kind = InputKind::parameter) {
    return input(cat("in", graph.inputs.size()), std::move(shape), sharding, kind);
  }
  void out(Value value, const char* sharding) { output(value, sharding); }
  std::string collectives(int64_t bucket_bytes) {
    PartitionOptions options;
    options.bucket_bytes = bucket_bytes;
    EXPECT_EQ(check_every_pass(graph, mesh, {}, options, 1e-6), "");
    return collectives_in(partition(graph, mesh, {}, options));
  }
};

TEST(BucketShards, ScattersThatAreReadyTogether) {
  BucketProgram p("x=4");
  p.out(p.in({16}, "[{}] partial{sum: x}"), "[{x}]");
  p.out(p.in({3, 8}, "[{}, {}] partial{sum: x}"), "[{}, {x}]");
  p.out(p.in({8, 2}, "[{}, {}] partial{sum: x}"), "[{x}, {}]");
  EXPECT_EQ(p.collectives(0), "reduce_scatter [16]; reduce_scatter [3,8]; reduce_scatter [8,2]");
  EXPECT_EQ(p.collectives(1 << 20), "reduce_scatter [4,14]");
}

TEST(BucketShards, GathersOfParametersWhereTheFirstIsNeeded) {
  BucketProgram p("x=4");
  const Sharding whole(p.mesh, 2);
  auto lies = [&](Value value) {
    p.graph.info(value).sharding = whole;
    if (!p.graph.at(value).is(ops::kAllGather)) p.graph.at(value).factor_axes.resize(2);
    return value;
  };
  Value sum = p.in({3, 8}, "[{}, {}]", InputKind::data);
  for (int i = 0; i < 3; ++i) {
    const Value shards = p.in({3, 8}, "[{}, {x}]");
    const Value gathered = lies(ops::all_gather(p.b, shards, 1, {p.mesh->axis("x")}));
    sum = lies(ops::tanh(p.b, lies(ops::add(p.b, sum, gathered))));
  }
  p.out(sum, "[{}, {}]");
  const Graph apart = localize(p.graph);
  EXPECT_EQ(collectives_in(apart), "all_gather [3,2]; all_gather [3,2]; all_gather [3,2]");
  const Graph joined = bucket_shards(apart, 1 << 20, machine_model("cpu-shm"));
  EXPECT_EQ(collectives_in(joined), "all_gather [1,18]");
  const std::vector<HostTensor> inputs = random_inputs(p.graph, 3);
  EXPECT_LE(error_between(interpret(p.graph, inputs)[0], interpret_sharded(joined, inputs)[0]),
            1e-6);
}

// A member that has the shape of the flat buffer's part already is no new value: it lies as before.
TEST(BucketShards, OperandsKeepTheirShardings) {
  BucketProgram p("x=2,y=4");
  p.out(p.in({4, 8}, "[{y}, {x}]"), "[{y}, {}]");
  p.out(p.in({8, 4}, "[{x}, {y}]"), "[{}, {y}]");
  EXPECT_EQ(p.collectives(1 << 20), "all_gather [1,8]");
}

// A tensor whose copy takes longer than a collective's latency travels alone.
TEST(BucketShards, LargeOnesTravelAlone) {
  BucketProgram p("x=4");
  for (int i = 0; i < 2; ++i) p.out(p.in({256, 256}, "[{}, {}] partial{sum: x}"), "[{x}, {}]");
  EXPECT_EQ(p.collectives(32 << 20), "reduce_scatter [256,256]; reduce_scatter [256,256]");
}

// Members of two axes: what is cut along another axis besides keeps its place.
TEST(BucketShards, MembersThatAreCutAlongOtherAxes) {
  BucketProgram p("x=2,y=2");
  p.out(p.in({8, 4}, "[{}, {y}] partial{sum: x}"), "[{x}, {y}]");
  p.out(p.in({8, 4}, "[{}, {}] partial{sum: x}"), "[{}, {x}]");
  EXPECT_EQ(p.collectives(1 << 20), "reduce_scatter [2,24]");
}

// Biases of a block of GPT under ZeRO-3 travel together, forward, backward and in the update;
// weights are gathered alone as before, so that no more than a layer's are held.
TEST(BucketShards, BiasesOfABlock) {
  models::StepConfig config;
  config.model = {.family = models::Family::gpt2, .layers = 2, .embed = 256, .heads = 4,
                  .kv_heads = 4, .head_dim = 64, .mlp = 1024, .vocab = 250, .padded_vocab = 256,
                  .context = 64, .tied_embeddings = true};
  config.compute = DType::f32;
  config.batch = 16;
  config.length = 64;
  const char* cut = "embed=data mlp=data heads=data kv_heads=data";
  auto counts = [&](int64_t bucket_bytes) {
    PartitionOptions options;
    options.bucket_bytes = bucket_bytes;
    const Graph local = partition(models::build_step(config, false), mesh_of("data=4"),
                                  config_of(cut, "batch=data"), options);
    std::map<std::string, std::pair<int, int64_t>> found;  // number, bytes
    for (const Instruction& instruction : local.instructions)
      if (instruction.is(ops::kAllGather) || instruction.is(ops::kReduceScatter)) {
        auto& [count, bytes] = found[std::string(instruction.op->name)];
        ++count;
        bytes += local.type(instruction.operands[0]).bytes();
      }
    return found;
  };
  auto apart = counts(0), joined = counts(32 << 20);
  for (const char* op : {"all_gather", "reduce_scatter"}) {
    EXPECT_EQ(apart[op].second, joined[op].second) << op;  // the same bytes
    // Six biases in each of two blocks are one collective a block.
    EXPECT_LE(joined[op].first, apart[op].first - 2 * 5) << op;
  }
}

}  // namespace
}  // namespace tessera::testing
