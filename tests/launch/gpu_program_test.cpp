// The program on GPUs: what trains on the processor trains there, to the same losses, alone and on several
// ranks. The GPU is the one in software (tests/soft_gpu), so these run on any machine.
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/strings.h"
#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

const std::string kSoftPlugin = TESSERA_BINARY_DIR "/tests/soft_gpu/libtessera_cuda.so";

ProgramOptions on_soft_gpus(int devices = 1, int ranks = 0) {
  ProgramOptions options;
  options.ranks = ranks;
  options.environment = {{"TESSERA_CUDA_PLUGIN", kSoftPlugin}, {"TESSERA_SOFT_GPU_DEVICES", std::to_string(devices)}};
  return options;
}

Outcome train(const TinyJob& job, const std::string& output, const std::vector<std::string>& more,
              const ProgramOptions& options = {}) {
  const Outcome outcome = run_program(job.train(output, more), options);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.all();
  return outcome;
}

void expect_same_losses(const TinyJob& job, const std::string& a, const std::string& b, double tolerance) {
  const std::vector<MetricsLine> first = read_metrics(job.output(a)), second = read_metrics(job.output(b));
  ASSERT_EQ(first.size(), second.size());
  ASSERT_FALSE(first.empty());
  for (size_t i = 0; i < first.size(); ++i)
    EXPECT_NEAR(first[i].loss, second[i].loss, tolerance * first[i].loss) << a << " and " << b << ", step " << i;
}

const std::vector<std::string> kCuda = {"--device", "cuda"};

class GpuFamily : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, GpuFamily, testing::Values("gpt2", "llama"));

TEST_P(GpuFamily, TrainsToTheLossesOfTheProcessor) {
  const TinyJob job(GetParam());
  const std::vector<std::string> steps = set("train.steps", "50");
  train(job, "cpu", steps);
  const Outcome gpu = train(job, "gpu", join_arguments(steps, kCuda), on_soft_gpus());
  EXPECT_TRUE(gpu.says("GPU 0")) << gpu.all();
  EXPECT_FALSE(gpu.says("reference")) << gpu.all();
  expect_same_losses(job, "cpu", "gpu", 1e-4);
}

TEST_P(GpuFamily, Bf16StaysNearF32) {
  const TinyJob job(GetParam());
  train(job, "f32", {});
  const Outcome gpu =
      train(job, "bf16", join_arguments(set("train.compute_dtype", "bf16"), kCuda), on_soft_gpus());
  EXPECT_FALSE(gpu.says("reference")) << gpu.all();
  expect_same_losses(job, "f32", "bf16", 0.03);
}

TEST(GpuRanks, ThreadsOnOneGpuTrainAsOne) {
  const TinyJob job;
  train(job, "one", kCuda, on_soft_gpus());
  for (const char* preset : {"data", "tensor", "fsdp"}) {
    const Outcome two = train(job, preset,
                              join_arguments({"--virtual-devices", "2", "--sharding", shipped_sharding(preset)}, kCuda),
                              on_soft_gpus());
    EXPECT_TRUE(two.says("staged")) << two.all();
    expect_same_losses(job, "one", preset, 1e-5);
  }
}

TEST(GpuRanks, NcclOnAGpuEach) {
  const TinyJob job;
  train(job, "one", kCuda, on_soft_gpus());
  for (const char* preset : {"data", "tensor_sequence", "fsdp"}) {
    const Outcome four = train(job, preset,
                               join_arguments({"--virtual-devices", "4", "--sharding", shipped_sharding(preset)}, kCuda),
                               on_soft_gpus(4));
    EXPECT_TRUE(four.says("NCCL")) << four.all();
    expect_same_losses(job, "one", preset, 1e-5);
  }
}

class GpuMpi : public MpiTest {};

TEST_F(GpuMpi, ProcessesThatShareAGpuTrainAsOne) {
  const TinyJob job;
  train(job, "one", kCuda, on_soft_gpus());
  for (const int ranks : {2, 4}) {
    train(job, cat("ranks", ranks), join_arguments({"--set", "device.transport=staged"}, kCuda), on_soft_gpus(1, ranks));
    expect_same_losses(job, "one", cat("ranks", ranks), 1e-5);
  }
}

TEST(GpuCheckpoint, GoesOnOnTheOtherKindOfDevice) {
  const TinyJob job;
  train(job, "whole", {});
  const std::vector<std::string> half = set("train.steps", "10");
  const std::vector<std::string> schedule = set("schedule.decay_steps", "20");
  train(job, "moved", join_arguments(join_arguments(half, schedule), kCuda), on_soft_gpus());
  const Outcome rest = train(job, "moved", schedule);
  EXPECT_TRUE(rest.says("resumed at step 10")) << rest.all();
  expect_same_losses(job, "whole", "moved", 1e-4);
}

TEST(GpuVerbs, EvalAndGenerateSayWhatTheProcessorSays) {
  const TinyJob job;
  train(job, "run", {});
  const std::string run = job.output("run");
  const Outcome cpu = run_program({"eval", run}), gpu = run_program({"eval", run, "--device", "cuda"}, on_soft_gpus());
  ASSERT_EQ(gpu.exit_code, 0) << gpu.all();
  const auto loss = [](const Outcome& outcome) { return std::stod(outcome.out.substr(outcome.out.find("loss ") + 5)); };
  EXPECT_NEAR(loss(cpu), loss(gpu), 1e-4);
  const std::vector<std::string> sample = {"generate", run, "--prompt", "the ", "--tokens", "12", "--temperature", "0"};
  const Outcome text = run_program(sample), on_gpu = run_program(join_arguments(sample, kCuda), on_soft_gpus());
  ASSERT_EQ(on_gpu.exit_code, 0) << on_gpu.all();
  EXPECT_EQ(text.out, on_gpu.out);
}

// ---- What can be wrong ----

TEST(GpuErrors, NoPluginSaysWhatWasTriedAndWhatToDo) {
  const TinyJob job;
  ProgramOptions options;
  options.environment = {{"TESSERA_CUDA_PLUGIN", "/nowhere/libtessera_cuda.so"}};
  const Outcome outcome = run_program(job.train("x", kCuda), options);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(outcome.says("/nowhere/libtessera_cuda.so: there is no such file")) << outcome.all();
  EXPECT_TRUE(outcome.says("device.backend = cpu needs none of it")) << outcome.all();
}

TEST(GpuErrors, NoDevice) {
  const TinyJob job;
  const Outcome outcome = run_program(job.train("x", kCuda), on_soft_gpus(0));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(outcome.says("no CUDA device is visible on")) << outcome.all();
  const Outcome doctor = run_program({"doctor"}, on_soft_gpus(0));
  EXPECT_EQ(doctor.exit_code, 0);
  EXPECT_TRUE(doctor.says("no CUDA device is visible")) << doctor.all();
}

TEST(GpuErrors, OutOfMemorySaysHowMuchAndWhatHelps) {
  const TinyJob job;
  ProgramOptions options = on_soft_gpus();
  options.environment.push_back({"TESSERA_SOFT_GPU_MEMORY", "200000"});
  const Outcome outcome = run_program(job.train("x", kCuda), options);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(outcome.says("out of memory on GPU 0")) << outcome.all();
  EXPECT_TRUE(outcome.says("train.remat")) << outcome.all();
}

TEST(GpuErrors, TwoRanksOnOneGpuWithNccl) {
  const TinyJob job;
  const Outcome outcome = run_program(
      job.train("x", join_arguments({"--virtual-devices", "2", "--set", "device.transport=nccl"}, kCuda)), on_soft_gpus());
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(outcome.says("device.transport = staged")) << outcome.all();
}

TEST(GpuErrors, PlanNeedsNoDevice) {
  const TinyJob job;
  const Outcome outcome = run_program({"plan", job.path(), "--device", "cuda", "--devices", "4", "--mesh", "data=4"}, on_soft_gpus(0));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.all();
  EXPECT_TRUE(outcome.says("h100-nvlink-ib")) << outcome.all();
}

}  // namespace
}  // namespace tessera::test
