// The program on GPUs: what trains on the processor trains there, to the same losses, alone and on several
// ranks. The GPU is the one in software (tests/soft_gpu), so these run on any machine.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/strings.h"
#include "core/runtime/flight_record.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/checkpoint_reader.h"
#include "launch/trainer/kernel_choices.h"
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

// One rank as on the processor, in f32 and nearly so in bf16.
void check_family(const char* family, int steps, const std::vector<std::string>& more = {}) {
  const TinyJob job(family);
  const std::vector<std::string> some = join_arguments(set("train.steps", std::to_string(steps)), more);
  train(job, "cpu", some);
  const Outcome gpu = train(job, "gpu", join_arguments(some, kCuda), on_soft_gpus());
  EXPECT_TRUE(gpu.says("NUMA node")) << gpu.all();
  EXPECT_FALSE(gpu.says("reference")) << gpu.all();
  expect_same_losses(job, "cpu", "gpu", 1e-4);
  const Outcome bf16 = train(job, "bf16", join_arguments(join_arguments(some, set("train.compute_dtype", "bf16")), kCuda),
                             on_soft_gpus());
  EXPECT_FALSE(bf16.says("reference")) << bf16.all();
  expect_same_losses(job, "cpu", "bf16", 0.03);
}

class GpuFamily : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, GpuFamily, testing::Values("gpt2", "llama"));
TEST_P(GpuFamily, TrainsToTheLossesOfTheProcessor) { check_family(GetParam(), 4); }

// Windows, biases of both kinds and documents, which are words here.
TEST(GpuAttention, FeaturesTrainToTheLossesOfTheProcessor) {
  std::vector<std::string> documents;
  for (const char* text : {"data.document_separator=\" \"", "data.separate_documents=true", "model.position=relative",
                           "model.attention_window=7"})
    documents = join_arguments(documents, {"--set", text});
  check_family("llama", 3, documents);
  check_family("gpt2", 3, join_arguments(set("model.position", "alibi"), set("model.attention_window", "5")));
}

// Masks of dropout and the rounding of states in bf16 are drawn alike on both.
TEST(GpuDraws, TrainToTheLossesOfTheProcessor) {
  std::vector<std::string> draws = set("train.accumulate", "2");
  for (const char* text : {"model.dropout=0.2", "optimizer.moment_dtype=bf16", "train.parameter_dtype=bf16"})
    draws = join_arguments(draws, {"--set", text});
  check_family("gpt2", 4, draws);
}

class GpuFamilyLong : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, GpuFamilyLong, testing::Values("gpt2", "llama"));
TEST_P(GpuFamilyLong, TrainsToTheLossesOfTheProcessor) { check_family(GetParam(), 50); }

// fp8 in f32's program: sums in another order send a number now and then to the other of its two codes.
TEST(GpuFp8, TrainsToTheLossesOfTheProcessor) {
  for (const auto& [family, compute, tolerance] :
       {std::tuple{"gpt2", "f32", 1e-3}, {"gpt2", "bf16", 0.01}, {"llama", "bf16", 0.01}}) {
    const TinyJob job(family);
    const std::vector<std::string> fp8 =
        join_arguments(join_arguments(set("train.steps", "2"), set("train.matmul_dtype", "fp8")),
                       join_arguments(set("train.compute_dtype", compute), set("train.microbatch", "4")));
    train(job, "cpu", fp8);
    const Outcome gpu = train(job, "gpu", join_arguments(fp8, kCuda), on_soft_gpus());
    EXPECT_FALSE(gpu.says("reference")) << gpu.all();
    expect_same_losses(job, "cpu", "gpu", tolerance);
  }
  const TinyJob job;
  const std::vector<std::string> fp8 =
      join_arguments(join_arguments(set("train.steps", "2"), set("train.matmul_dtype", "fp8")), kCuda);
  train(job, "one", fp8, on_soft_gpus());
  train(job, "fsdp", join_arguments({"--virtual-devices", "2", "--sharding", shipped_sharding("fsdp")}, fp8),
        on_soft_gpus(2));
  expect_same_losses(job, "one", "fsdp", 1e-3);
}

TEST(GpuFp8, OlderGpusAreRefusedByName) {
  const TinyJob job;
  ProgramOptions ampere = on_soft_gpus();
  ampere.environment.push_back({"TESSERA_SOFT_GPU_COMPUTE", "80"});
  const Outcome outcome =
      run_program(job.train("refused", join_arguments(set("train.matmul_dtype", "fp8"), kCuda)), ampere);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.all();
  EXPECT_TRUE(outcome.says("train.matmul_dtype = fp8 wants a GPU of compute capability 8.9")) << outcome.all();
  EXPECT_TRUE(outcome.says("has 8.0")) << outcome.all();
}

// Ranks that are threads, under each preset, on so many GPUs.
void check_presets(const std::vector<const char*>& presets, int ranks, int gpus, const char* transport, int steps) {
  const TinyJob job;
  const std::vector<std::string> some = join_arguments(set("train.steps", std::to_string(steps)), kCuda);
  train(job, "one", some, on_soft_gpus());
  for (const char* preset : presets) {
    const Outcome several = train(
        job, preset,
        join_arguments({"--virtual-devices", std::to_string(ranks), "--sharding", shipped_sharding(preset)}, some),
        on_soft_gpus(gpus));
    EXPECT_TRUE(several.says(transport)) << several.all();
    EXPECT_FALSE(several.says("chosen anew")) << several.all();  // rank 0's algorithms hold for equal GPUs
    expect_same_losses(job, "one", preset, 1e-5);
  }
}

TEST(GpuRanks, ThreadsOnOneGpuTrainAsOne) { check_presets({"tensor", "fsdp"}, 2, 1, "staged", 3); }
TEST(GpuRanks, NcclOnAGpuEach) { check_presets({"tensor_sequence"}, 4, 4, "NCCL", 3); }
TEST(GpuRanksLong, ThreadsOnOneGpuTrainAsOne) {
  check_presets({"data", "zero1", "fsdp", "tensor", "tensor_sequence", "2d"}, 4, 1, "staged", 20);
}
TEST(GpuRanksLong, NcclOnAGpuEach) {
  check_presets({"data", "zero1", "fsdp", "hsdp", "tensor", "tensor_sequence", "2d"}, 4, 4, "NCCL", 20);
}

// Processes that share a GPU.
void check_processes(int ranks, int steps) {
  const TinyJob job;
  const std::vector<std::string> some = join_arguments(set("train.steps", std::to_string(steps)), kCuda);
  train(job, "one", some, on_soft_gpus());
  train(job, "several", join_arguments({"--set", "device.transport=staged"}, some), on_soft_gpus(1, ranks));
  expect_same_losses(job, "one", "several", 1e-5);
}

class GpuMpi : public MpiTest {};
class GpuMpiLong : public MpiTest {};
TEST_F(GpuMpi, ProcessesThatShareAGpuTrainAsOne) { check_processes(2, 3); }
TEST_F(GpuMpiLong, TwoProcessesTrainAsOne) { check_processes(2, 20); }
TEST_F(GpuMpiLong, FourProcessesTrainAsOne) { check_processes(4, 20); }

TEST(GpuCheckpoint, GoesOnOnTheOtherKindOfDevice) {
  const TinyJob job;
  const std::vector<std::string> schedule = set("schedule.decay_steps", "20");
  train(job, "whole", join_arguments(set("train.steps", "6"), schedule));
  train(job, "moved", join_arguments(join_arguments(set("train.steps", "3"), schedule), kCuda), on_soft_gpus());
  const Outcome rest = train(job, "moved", join_arguments(set("train.steps", "6"), schedule));
  EXPECT_TRUE(rest.says("resumed at step 3")) << rest.all();
  expect_same_losses(job, "whole", "moved", 1e-4);
}

// Timing decides differently each time, so that equal choices are those that were handed on.
TEST(GpuCheckpoint, KeepsTheAlgorithmsThatWereTimed) {
  const TinyJob job;
  const std::vector<std::string> ranks = {"--virtual-devices", "2", "--set", "device.autotune=true"};
  const auto chosen_after = [&](const char* steps) {
    train(job, "timed", join_arguments(join_arguments(set("train.steps", steps), ranks), kCuda), on_soft_gpus());
    const CheckpointReader reader(list_checkpoints(job.output("timed")).front().path);
    EXPECT_EQ(reader.info().step, std::stoi(steps));
    return reader.info().determinism.at(kKernelChoices);
  };
  const std::string first = chosen_after("1");
  EXPECT_NE(first.find("cuBLASLt"), std::string::npos) << first;
  EXPECT_EQ(first, chosen_after("2"));
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

TEST(GpuVerbs, InspectNamesWhoHeldAJobUp) {
  const TempFolder folder;
  for (int rank = 0; rank < 2; ++rank) {
    FlightRecord record{rank, 2, "node7", rank == 0 ? "rank 0 has waited 5 s" : "rank 0 asked for it", {}, {}};
    record.groups.push_back({"data", {0, 1}, 7, 7, rank == 0 ? 6u : 7u});
    record.groups[0].started = rank == 0 ? 7 : 6;
    record.groups[0].finished = 6;
    record.entries.push_back({0, rank == 0 ? 7u : 6u, CollectiveKind::all_reduce, "grad/w", 4096, 100, 0});
    write_flight_record(record, folder.path());
  }
  const Outcome outcome = run_program({"inspect", folder.path(), "--json", folder / "report.json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.all();
  EXPECT_TRUE(outcome.says("rank 0 of 2 (node7): rank 0 has waited 5 s")) << outcome.all();
  EXPECT_TRUE(outcome.says("all_reduce #7 of 'grad/w' (4.00 KiB) in group 'data'")) << outcome.all();
  EXPECT_TRUE(outcome.says("rank 1 holds the others up")) << outcome.all();
  std::ifstream report(folder / "report.json");
  const std::string text{std::istreambuf_iterator<char>(report), {}};
  EXPECT_NE(text.find("\"culprit\": 1"), std::string::npos) << text;
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

// The plugin itself, on a machine that has CUDA's toolkit and no driver.
TEST(GpuErrors, NoDriver) {
  const std::string plugin = TESSERA_BINARY_DIR "/libtessera_cuda.so";
  if (!std::filesystem::exists(plugin)) GTEST_SKIP() << "built without CUDA";
  if (dlopen("libcuda.so.1", RTLD_LAZY) != nullptr) GTEST_SKIP() << "this machine has a driver";
  const TinyJob job;
  ProgramOptions options;
  options.environment = {{"TESSERA_CUDA_PLUGIN", plugin}};
  const Outcome outcome = run_program(job.train("x", kCuda), options);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(outcome.says("there is no driver on this machine")) << outcome.all();
  EXPECT_TRUE(outcome.says("device.backend = cpu needs none")) << outcome.all();
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

TEST(GpuErrors, OutOfMemorySaysWhatForAndWhatHelps) {
  const TinyJob job;
  const auto with_memory = [&](const char* bytes, const std::vector<std::string>& more) {
    ProgramOptions options = on_soft_gpus();
    options.environment.push_back({"TESSERA_SOFT_GPU_MEMORY", bytes});
    Outcome outcome = run_program(job.train("x", join_arguments(kCuda, more)), options);
    EXPECT_EQ(outcome.exit_code, 1);
    return outcome;
  };
  const Outcome one = with_memory("34000000", {});
  EXPECT_TRUE(one.says("out of memory on GPU 0 (Software GPU) of ")) << one.all();
  EXPECT_TRUE(one.says("A rank's training step: parameters ")) << one.all();
  EXPECT_TRUE(one.says("(dot_general in head), live in steps ")) << one.all();
  EXPECT_TRUE(one.says("train.remat = full")) << one.all();
  const Outcome two = with_memory("68000000", {"--virtual-devices", "2"});
  EXPECT_TRUE(two.says("are needed by 2 ranks together")) << two.all();
  // Less than what every backend needs.
  const Outcome none = with_memory("200000", {});
  EXPECT_TRUE(none.says("the workspace of matrix products: out of memory")) << none.all();
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
