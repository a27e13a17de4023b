// Meshes that divide neither the widths nor the heads nor the vocabulary of a job: the losses of 20
// steps are those of one device, within 1e-10 in f64.
#include <gtest/gtest.h>

#include "core/base/strings.h"
#include "core/runtime/thread_world.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/threads.h"
#include "launch/config/load.h"
#include "launch/data/batches.h"
#include "launch/engine/session.h"
#include "launch/trainer/evaluation.h"
#include "launch/trainer/learning_rate.h"
#include "tests/launch/tiny_job.h"

namespace tessera {
namespace {

using test::TinyJob;

constexpr int kSteps = 20;

struct Curve {
  std::vector<double> losses, norms;
  double heldout = 0;
};

Curve train_rank(const std::shared_ptr<const CompiledJob>& compiled, Backend& backend, World& world) {
  cpu::set_threads(1);
  const JobConfig& job = compiled->config;
  const TextData data = open_text_data({.paths = job.data.paths, .holdout = job.data.holdout,
                                        .length = job.train.sequence_length});
  const TrainingBatches batches(*data.training, static_cast<uint64_t>(job.data.seed));
  Session session(compiled, backend, world);
  session.initialise();
  Curve curve;
  DataPosition position;
  const int64_t per_micro = job.train.global_batch / job.train.accumulate;
  for (int64_t step = 0; step < kSteps; ++step) {
    const StepResult result = session.train_step(
        step, learning_rate(job.schedule, step), [&](int64_t micro, int64_t row, int64_t rows, TokenBatch& batch) {
          batches.read(position, micro * per_micro + row, rows, batch);
        });
    curve.losses.push_back(result.loss);
    curve.norms.push_back(result.grad_norm);
    position = batches.advance(position, job.train.global_batch);
  }
  curve.heldout = evaluate_dataset(session, *data.heldout);
  return curve;
}

struct Layout {
  const char* name;
  const char* sharding;  // shipped
  const char* mesh;
  int devices;
};

Curve run(const TinyJob& tiny, const Layout& layout, std::vector<std::string> sets) {
  sets.push_back("train.global_batch=30");
  sets.push_back("train.compute_dtype=f64");
  const JobConfig job = load_job_text(
      tiny.text(), "tiny.textproto",
      {.sharding_file = *layout.sharding ? test::shipped_sharding(layout.sharding) : "",
       .mesh = layout.mesh, .sets = std::move(sets), .device_count = layout.devices});
  KernelTable kernels;
  register_cpu_kernels(kernels);
  const auto compiled = compile_job(job, kernels);
  Curve curve;
  run_thread_ranks(layout.devices, [&](World& world) {
    const std::unique_ptr<Backend> backend = create_cpu_backend(kernels);
    Curve mine = train_rank(compiled, *backend, world);
    if (world.rank() == 0) curve = std::move(mine);
  });
  return curve;
}

constexpr Layout kOneDevice = {"one", "", "", 1};

void expect_like_one_device(const std::string& family, const std::vector<Layout>& layouts,
                            const std::vector<std::string>& sets) {
  const TinyJob tiny(family);
  const Curve expected = run(tiny, kOneDevice, sets);
  EXPECT_LT(expected.losses.back(), 4) << family;
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(cat(family, " on ", layout.sharding, " ", layout.mesh, " ", join(sets)));
    const Curve curve = run(tiny, layout, sets);
    ASSERT_EQ(curve.losses.size(), expected.losses.size());
    for (size_t i = 0; i < curve.losses.size(); ++i) {
      EXPECT_NEAR(curve.losses[i], expected.losses[i], 1e-10 * expected.losses[i]) << "step " << i + 1;
      EXPECT_NEAR(curve.norms[i], expected.norms[i], 1e-9 * expected.norms[i]) << "step " << i + 1;
    }
    EXPECT_NEAR(curve.heldout, expected.heldout, 1e-10 * expected.heldout);
  }
}

// Embed 32, 4 heads, mlp 128, vocabulary 384.
const std::vector<Layout> kLayouts = {
    {"data3", "data", "data=3", 3},        {"fsdp3", "fsdp", "data=3", 3},
    {"zero1_3", "zero1", "data=3", 3},     {"tensor3", "tensor", "data=1,model=3", 3},
    {"fsdp5", "fsdp", "data=5", 5},        {"tensor5", "tensor", "data=1,model=5", 5},
    {"tensor2x3", "tensor", "data=2,model=3", 6}, {"both3x2", "2d", "data=3,model=2", 6},
    {"both2x3", "2d", "data=2,model=3", 6}, {"sequence2x3", "tensor_sequence", "data=2,model=3", 6},
};

TEST(UnevenMeshes, Gpt) { expect_like_one_device("gpt2", kLayouts, {}); }
TEST(UnevenMeshes, Llama) { expect_like_one_device("llama", kLayouts, {}); }
TEST(UnevenMeshes, WithoutVocabularyPadding) {
  expect_like_one_device("gpt2",
                         {{"tensor2", "tensor", "data=1,model=2", 2},
                          {"tensor3", "tensor", "data=1,model=3", 3},
                          {"both2x3", "2d", "data=2,model=3", 6}},
                         {"model.vocab_padding=1"});
}
TEST(UnevenMeshes, WithAccumulation) {
  expect_like_one_device("gpt2", {kLayouts[1], kLayouts[6]}, {"train.accumulate=5"});
}

}  // namespace
}  // namespace tessera
