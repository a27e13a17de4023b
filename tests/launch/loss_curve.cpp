#include "tests/launch/loss_curve.h"

#include <gtest/gtest.h>

#include <memory>
#include <ostream>

#include "core/runtime/thread_world.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/threads.h"
#include "launch/config/load.h"
#include "launch/data/batches.h"
#include "launch/engine/job_data.h"
#include "launch/engine/session.h"
#include "launch/trainer/evaluation.h"
#include "launch/trainer/learning_rate.h"

namespace tessera::test {
namespace {

Curve train_rank(const std::shared_ptr<const CompiledJob>& compiled, const KernelTable& kernels,
                 World& world) {
  cpu::set_threads(1);
  const JobConfig& job = compiled->config;
  const std::unique_ptr<Backend> backend = create_cpu_backend(kernels);
  const TextData data = open_job_data(job, world);
  const TrainingBatches batches(*data.training, static_cast<uint64_t>(job.data.seed));
  Session session(compiled, *backend, world);
  session.initialise();
  Curve curve;
  DataPosition position;
  const int64_t per_micro = job.train.global_batch / job.train.accumulate;
  for (int64_t step = 0; step < job.train.steps; ++step) {
    const StepResult result = session.train_step(
        step, learning_rate(job.schedule, step),
        [&](int64_t micro, int64_t row, int64_t rows, TokenBatch& batch) {
          batches.read(position, micro * per_micro + row, rows, batch);
        });
    curve.losses.push_back(result.loss);
    curve.norms.push_back(result.grad_norm);
    position = batches.advance(position, job.train.global_batch);
  }
  curve.heldout = evaluate_dataset(session, *data.heldout);
  return curve;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Layout& layout) { return out << layout.name; }

Curve train_on(const TinyJob& job, const Layout& layout, std::vector<std::string> sets) {
  const JobConfig config = load_job_text(
      job.text(), "tiny.textproto",
      {.sharding_file = *layout.sharding ? shipped_sharding(layout.sharding) : "",
       .mesh = layout.mesh, .sets = std::move(sets), .device_count = layout.devices});
  const KernelTable kernels = cpu_kernel_table();
  const auto compiled = compile_job(config, kernels);
  Curve curve;
  run_thread_ranks(layout.devices, [&](World& world) {
    Curve mine = train_rank(compiled, kernels, world);
    if (world.rank() == 0) curve = std::move(mine);
  });
  return curve;
}

void expect_near(const Curve& expected, const Curve& curve, double tolerance) {
  ASSERT_EQ(curve.losses.size(), expected.losses.size());
  for (size_t i = 0; i < curve.losses.size(); ++i) {
    EXPECT_NEAR(curve.losses[i], expected.losses[i], tolerance * expected.losses[i])
        << "step " << i + 1;
    EXPECT_NEAR(curve.norms[i], expected.norms[i], 10 * tolerance * expected.norms[i])
        << "step " << i + 1;
  }
  EXPECT_NEAR(curve.heldout, expected.heldout, tolerance * expected.heldout);
}

}  // namespace tessera::test
