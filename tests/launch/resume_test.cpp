// A run that is killed and goes on gives the same numbers, to the last bit, as one that never was.
#include <gtest/gtest.h>
#include <signal.h>

#include <map>
#include <random>

#include "core/base/strings.h"
#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

constexpr int kSteps = 240;

// Long enough to be killed on the way; checkpoints at every 7th step.
std::vector<std::string> long_run(const TinyJob& job, const std::string& output,
                                  const std::vector<std::string>& more) {
  return join_arguments(
      job.train(output, {"--set", cat("train.steps=", kSteps), "--set", "checkpoint.interval=7", "--set",
                         "eval.interval=10", "--set", "eval.batches=2"}),
      more);
}

// Kills the run once `lines` steps are in its metrics; whatever it does at that moment.
void kill_after(const std::vector<std::string>& arguments, const ProgramOptions& options,
                const std::string& output, size_t lines) {
  Program program(arguments, options);
  ASSERT_TRUE(program.wait_until([&] { return read_metrics(output).size() >= lines; }))
      << program.wait().all();
  program.kill_all();
  program.wait();
}

void expect_kill_changes_nothing(const std::vector<std::string>& more, const ProgramOptions& options,
                                 unsigned seed) {
  const TinyJob job;
  const Outcome whole = run_program(long_run(job, "whole", more), options);
  ASSERT_EQ(whole.exit_code, 0) << whole.all();
  const std::vector<MetricsLine> expected = read_metrics(job.output("whole"));
  ASSERT_EQ(expected.size(), static_cast<size_t>(kSteps));

  std::mt19937 random(seed);
  const std::vector<std::string> again = long_run(job, "killed", more);
  const size_t first = 10 + random() % 70, second = 90 + random() % 80;
  kill_after(again, options, job.output("killed"), first);
  kill_after(again, options, job.output("killed"), second);
  const Outcome last = run_program(again, options);
  ASSERT_EQ(last.exit_code, 0) << last.all();
  EXPECT_TRUE(last.says("resumed at step")) << last.all();
  EXPECT_EQ(read_metrics(job.output("killed")), expected) << "killed after " << first << " and " << second;
}

TEST(KillAndResume, OneProcess) { expect_kill_changes_nothing(set("train.threads", "2"), {}, 1); }

TEST(KillAndResume, FullyShardedWithAccumulation) {
  expect_kill_changes_nothing({"--virtual-devices", "2", "--sharding", shipped_sharding("fsdp"), "--set",
                               "train.accumulate=2"},
                              {}, 2);
}

// Masks and rounding are drawn anew from the step's number.
TEST(KillAndResume, WithDropoutAndStatesInBf16) {
  expect_kill_changes_nothing({"--virtual-devices", "2", "--sharding", shipped_sharding("zero1"), "--set",
                               "train.accumulate=2", "--set", "model.dropout=0.1", "--set", "train.compute_dtype=bf16",
                               "--set", "train.parameter_dtype=bf16", "--set", "optimizer.moment_dtype=bf16"},
                              {}, 4);
}

TEST(KillAndResume, TwoMpiRanks) {
  if (!have_mpirun()) GTEST_SKIP() << "no MPI, or no mpirun on the path";
  expect_kill_changes_nothing({"--sharding", shipped_sharding("zero1")}, {.ranks = 2}, 3);
}

// ---- Another mesh ----

std::vector<std::string> layout(const std::string& sharding, const std::string& mesh, int devices) {
  return {"--sharding", shipped_sharding(sharding), "--mesh", mesh, "--virtual-devices", std::to_string(devices)};
}

void expect_near(const std::vector<MetricsLine>& lines, const std::vector<MetricsLine>& expected, double tolerance) {
  ASSERT_EQ(lines.size(), expected.size());
  for (size_t i = 0; i < lines.size(); ++i)
    EXPECT_NEAR(lines[i].loss, expected[i].loss, tolerance * expected[i].loss) << "step " << lines[i].step;
}

// The first half of a run, on a layout of its own.
std::vector<std::string> first_half(const std::vector<std::string>& layout) {
  return join_arguments(layout, {"--set", "train.steps=10", "--set", "schedule.decay_steps=20"});
}

struct NamedLayout {
  const char* name;
  std::vector<std::string> flags;
};

// A run that is at half on `first` goes on on each of `others` as one on a single device does.
void expect_goes_on_anywhere(const std::vector<std::string>& first, const std::vector<NamedLayout>& others,
                             const std::vector<std::string>& same) {
  const TinyJob job;
  const Outcome whole = run_program(job.train("whole", same));
  ASSERT_EQ(whole.exit_code, 0) << whole.all();
  const std::vector<MetricsLine> expected = read_metrics(job.output("whole"));
  ASSERT_EQ(expected.size(), 20u);
  const Outcome half = run_program(job.train("half", join_arguments(first_half(first), same)));
  ASSERT_EQ(half.exit_code, 0) << half.all();
  for (const NamedLayout& other : others) {
    SCOPED_TRACE(other.name);
    std::filesystem::copy(job.output("half"), job.output(other.name), std::filesystem::copy_options::recursive);
    const Outcome rest = run_program(job.train(other.name, join_arguments(other.flags, same)));
    ASSERT_EQ(rest.exit_code, 0) << rest.all();
    EXPECT_TRUE(rest.says("resumed at step 10")) << rest.all();
    EXPECT_TRUE(rest.says("changed since the checkpoint")) << rest.all();
    expect_near(read_metrics(job.output(other.name)), expected, 1e-10);
  }
}

TEST(ResumeOnAnotherMesh, FromFourDevicesToTwoAndOneAndEight) {
  expect_goes_on_anywhere(layout("2d", "data=2,model=2", 4),
                          {{"one", {}},
                           {"two", layout("fsdp", "data=2", 2)},
                           {"tensor", layout("tensor", "data=1,model=2", 2)},
                           {"sequence", layout("tensor_sequence", "data=2,model=2", 4)},
                           {"eight", layout("2d", "data=4,model=2", 8)}},
                          set("train.compute_dtype", "f64"));
}

// Embed 32, 4 heads and mlp 128 on 3 and 5 devices: what is padded on one mesh is padded otherwise on
// the next, and not at all on one device.
TEST(ResumeOnAnotherMesh, WhatOneMeshPadsAnotherPadsOtherwise) {
  expect_goes_on_anywhere(layout("fsdp", "data=3", 3),
                          {{"one", {}},
                           {"five", layout("fsdp", "data=5", 5)},
                           {"tensor", layout("tensor", "data=1,model=3", 3)}},
                          {"--set", "train.compute_dtype=f64", "--set", "train.global_batch=30"});
}

TEST(ResumeOnAnotherMesh, FromThreadsToMpiRanks) {
  if (!have_mpirun()) GTEST_SKIP() << "no MPI, or no mpirun on the path";
  const TinyJob job;
  const Outcome whole = run_program(job.train("whole"));
  ASSERT_EQ(whole.exit_code, 0) << whole.all();
  const Outcome half = run_program(job.train("half", first_half(layout("tensor", "data=2,model=2", 4))));
  ASSERT_EQ(half.exit_code, 0) << half.all();
  const Outcome rest = run_program(job.train("half", {"--sharding", shipped_sharding("fsdp")}), {.ranks = 2});
  ASSERT_EQ(rest.exit_code, 0) << rest.all();
  EXPECT_TRUE(rest.says("resumed at step 10")) << rest.all();
  expect_near(read_metrics(job.output("half")), read_metrics(job.output("whole")), 1e-5);
}

// ---- What a resume says ----

// Every file below `folder`, its time of writing and its bytes.
std::map<std::string, std::pair<std::filesystem::file_time_type, std::string>> files_below(const std::string& folder) {
  std::map<std::string, std::pair<std::filesystem::file_time_type, std::string>> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[entry.path()] = {entry.last_write_time(), read_whole_file(entry.path())};
  return files;
}

TEST(Resume, OfAFinishedRunTakesNoStepAndWritesNoCheckpoint) {
  const TinyJob job;
  ASSERT_EQ(run_program(job.train("out")).exit_code, 0);
  const std::string metrics = read_whole_file(job.output("out") + "/metrics.jsonl");
  ASSERT_EQ(read_metrics(job.output("out")).size(), 20u);
  const auto checkpoints = files_below(job.output("out") + "/checkpoints");
  ASSERT_FALSE(checkpoints.empty());
  const Outcome again = run_program(job.train("out"));
  EXPECT_EQ(again.exit_code, 0) << again.all();
  EXPECT_TRUE(again.says("resumed at step 20")) << again.all();
  EXPECT_TRUE(again.says("nothing to do: 20 of 20 steps")) << again.all();
  EXPECT_EQ(read_whole_file(job.output("out") + "/metrics.jsonl"), metrics);
  EXPECT_TRUE(files_below(job.output("out") + "/checkpoints") == checkpoints);
}

TEST(Resume, MoreStepsAndAnotherScheduleAreSaid) {
  const TinyJob job;
  ASSERT_EQ(run_program(job.train("out")).exit_code, 0);
  const Outcome again = run_program(job.train("out", {"--set", "train.steps=25", "--set", "schedule.learning_rate=5e-3"}));
  EXPECT_EQ(again.exit_code, 0) << again.all();
  EXPECT_TRUE(again.says("train.steps: 20 -> 25")) << again.all();
  EXPECT_TRUE(again.says("schedule.learning_rate: 0.01 -> 0.005")) << again.all();
  EXPECT_EQ(read_metrics(job.output("out")).size(), 25u);
}

TEST(Resume, AnotherModelDataSeedOrTypeIsRefused) {
  const TinyJob job;
  ASSERT_EQ(run_program(job.train("out")).exit_code, 0);
  for (const char* change : {"model.layers=3", "data.seed=7", "optimizer.moment_dtype=bf16", "train.parameter_dtype=bf16"}) {
    const Outcome again = run_program(job.train("out", {"--set", "train.steps=30", "--set", change}));
    EXPECT_EQ(again.exit_code, 2) << again.all();
    EXPECT_TRUE(again.says("cannot be resumed with another model")) << again.all();
    EXPECT_TRUE(again.says(std::string(change).substr(0, std::string(change).find('=')))) << again.all();
  }
}

TEST(Resume, MustAndNever) {
  const TinyJob job;
  const Outcome must = run_program(job.train("out", {"--resume", "must"}));
  EXPECT_EQ(must.exit_code, 1) << must.all();
  EXPECT_TRUE(must.says("there is no checkpoint in")) << must.all();
  ASSERT_EQ(run_program(job.train("out")).exit_code, 0);
  EXPECT_EQ(run_program(job.train("out", {"--resume", "must"})).exit_code, 0);
  // What is there is neither overwritten nor mixed with the new run.
  const Outcome never = run_program(job.train("out", {"--resume", "never"}));
  EXPECT_EQ(never.exit_code, 1) << never.all();
  EXPECT_TRUE(never.says("--resume never")) << never.all();
}

}  // namespace
}  // namespace tessera::test
