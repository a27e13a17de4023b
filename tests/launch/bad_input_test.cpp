// What wrong input gets: a message with what, where and what to do, the right exit code, no hang.
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/strings.h"
#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

// The exit code, and what was said on the way.
void expect_end(const Outcome& outcome, int code, const std::vector<std::string>& texts) {
  EXPECT_EQ(outcome.exit_code, code) << outcome.all();
  for (const std::string& text : texts) EXPECT_TRUE(outcome.says(text)) << "no \"" << text << "\" in\n" << outcome.all();
}

TEST(BadConfig, ATypoGetsTheNearestName) {
  const TinyJob job;
  expect_end(run_program(job.train("out", set("model.layres", "3"))), 2, {"layres", "did you mean \"layers\""});
  job.folder().write("typo.textproto", job.text() + "evall { interval: 3 }\n");
  expect_end(run_program({"train", job.folder() / "typo.textproto"}), 2, {"typo.textproto:", "evall", "\"eval\""});
  expect_end(run_program(job.train("out", set("train.steps", "many"))), 2, {"train.steps", "whole number"});
  EXPECT_FALSE(std::filesystem::exists(job.output("out")));
}

TEST(BadConfig, AMeshThatDoesNotFitShowsTheEquation) {
  const TinyJob job;
  const Outcome alone =
      run_program(job.train("out", {"--sharding", shipped_sharding("tensor"), "--mesh", "data=2,model=2"}));
  expect_end(alone, 2, {"2 x 2 = 4", "there is 1"});
}

TEST(BadConfig, ABatchThatDoesNotFitShowsTheEquation) {
  const TinyJob job;
  expect_end(run_program(job.train("out", {"--virtual-devices", "3"})), 2, {"global_batch 8", "8 / (3 x 1)"});
  expect_end(run_program(job.train("out", {"--virtual-devices", "2", "--set", "train.microbatch=3"})), 2,
                 {"global_batch 8", "8 / (2 x 3)"});
}

TEST(BadConfig, RulesAndOverrides) {
  const TinyJob job;
  const auto run = [&](const std::string& rules) {
    const std::string file =
        job.folder().write("rules.textproto", "mesh { name: \"data\" size: -1 }\n"
                                              "activation_rules { logical: \"batch\" axes: \"data\" }\n" + rules);
    return run_program(job.train("out", {"--sharding", file, "--virtual-devices", "2"}));
  };
  expect_end(run("parameter_rules { logical: \"mlp\" axes: \"dat\" }"), 2,
                 {"rules.textproto:3", "unknown mesh axis \"dat\"", "did you mean \"data\""});
  expect_end(run("parameter_rules { logical: \"heds\" axes: \"data\" }"), 2,
                 {"rules.textproto:3", "\"heds\"", "did you mean \"heads\""});
  expect_end(run("overrides { tensor: \"block.9.*\" dims { axes: \"data\" } dims {} }"), 2,
                 {"block.9.*", "matches no tensor"});
}

TEST(BadConfig, MuchPaddingIsAWarningAndRefusedUnderStrict) {
  const TinyJob job;
  std::vector<std::string> flags = {"--sharding", shipped_sharding("tensor"), "--mesh", "data=1,model=8",
                                    "--virtual-devices", "8"};
  const std::vector<std::string> texts = {"12.5 % of padding", "attention", "f32[4,8,32] [{model}, {}, {}]",
                                          "stored as [8,8,32]", "change the size, the mesh or the rule"};
  expect_end(run_program(job.train("out", flags)), 0, texts);
  flags.push_back("--strict");
  expect_end(run_program(job.train("strict", flags)), 2, texts);
}

class BadLaunch : public MpiTest {};

TEST_F(BadLaunch, AMeshForOtherRanks) {
  const TinyJob job;
  expect_end(run_program(job.train("out", {"--mesh", "data=4"}), {.ranks = 2}), 2, {"data=4", "2"});
}

TEST_F(BadLaunch, VirtualDevicesUnderMpirun) {
  const TinyJob job;
  expect_end(run_program(job.train("out", {"--virtual-devices", "2"}), {.ranks = 2}), 2,
                 {"--virtual-devices 2", "MPI launcher"});
}

TEST_F(BadLaunch, SlurmSaysFourAndMpiOne) {
  const TinyJob job;
  const Outcome run = run_program(
      job.train("out"), {.environment = {{"SLURM_NTASKS", "4"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "2"}}});
  expect_end(run, 2, {"SLURM_NTASKS=4", "MPI says 1", "srun --mpi=pmix"});
}

TEST(BadCorpus, EachIsRefusedByName) {
  const TinyJob job;
  job.folder().write("empty.txt", "");
  job.folder().write("latin.txt", "caf\xe9 au lait, caf\xe9 noir, and more of the same");
  job.folder().write("short.txt", "hi");
  const auto run = [&](const char* file) {
    return run_program(job.train("out", set("data.paths", quoted(job.folder() / file))));
  };
  expect_end(run("missing.txt"), 1, {"missing.txt", "does not exist"});
  expect_end(run("empty.txt"), 1, {"empty.txt", "is empty"});
  expect_end(run("latin.txt"), 1, {"latin.txt", "not UTF-8", "offset 3"});
  expect_end(run("short.txt"), 1, {"short.txt", "shorter than a sequence", "16"});
}

TEST_F(BadLaunch, ABadCorpusEndsAllRanks) {
  const TinyJob job;
  const Outcome run =
      run_program(job.train("out", set("data.paths", quoted(job.folder() / "missing.txt"))), {.ranks = 2});
  expect_end(run, 1, {"missing.txt", "does not exist"});
  EXPECT_EQ(run.times_said("does not exist"), 1) << run.all();
}

// Only one rank of a host reads the text to see that it is UTF-8. Its verdict is everyone's, and so
// is that of a host which has another file under the name.
TEST_F(BadLaunch, WhatOneRankFindsInTheCorpusEndsAll) {
  const TinyJob job;
  job.folder().write("latin.txt", tiny_corpus() + "caf\xe9");
  const std::vector<std::string> arguments =
      job.train("out", set("data.paths", quoted(job.folder() / "latin.txt")));
  for (const char* hosts : {"a", "a,b"}) {
    const Outcome run = run_program(arguments, {.ranks = 2, .environment = {{"TESSERA_FAKE_HOST", hosts}}});
    expect_end(run, 1, {"latin.txt", "is not UTF-8: byte 0xe9"});
    EXPECT_EQ(run.times_said("is not UTF-8"), 1) << run.all();
  }
}

// ---- The output folder ----

// A disk of its own at `folder`: the shell command that mounts it, once `unshare -m` has run the shell
// in a namespace of its own. "" where this user may not do that.
std::string private_disk(const std::string& folder, const std::string& options = "") {
  std::filesystem::create_directories(folder);
  const std::string mount = cat("mount -t tmpfs ", options, " tmpfs ", folder);
  const bool works = std::system(cat("unshare -m sh -c '", mount, "' 2>/dev/null").c_str()) == 0;
  return works ? mount : "";
}

// Each rank is a host with a disk of its own where the output should be.
TEST_F(BadLaunch, AnOutputFolderThatHostsDoNotShare) {
  const TinyJob job;
  const std::string disk = job.output("disk"), mount = private_disk(disk);
  if (mount.empty()) GTEST_SKIP() << "this user may not mount a disk in a namespace of its own";
  // The folder is missing on the other host, or is there with nothing of rank 0's in it.
  for (const char* also : {"", " && mkdir -p out && cd .."}) {
    const Outcome run = run_program(
        job.train("disk/out"),
        {.ranks = 2, .environment = {{"TESSERA_FAKE_HOST", "first,second"}},
         .rank_prefix = {"unshare", "-m", "sh", "-c", cat(mount, " && cd ", disk, also, " && exec \"$@\""), "sh"}});
    expect_end(run, 1, {"disk/out is not shared by all hosts", "second: ", "cannot be opened",
                        "Give a folder on a file system that every host mounts"});
    EXPECT_EQ(run.times_said("is not shared by all hosts"), 1) << run.all();
    EXPECT_LT(run.seconds, 60);
  }
}

TEST(BadOutput, UnwritableIsRefused) {
  const TinyJob job;
  expect_end(run_program(job.train("out", set("output_dir", quoted("/proc/nowhere/out")))), 1,
                 {"/proc/nowhere/out", "cannot be written", "output_dir"});
}

TEST(BadOutput, ASecondWriterIsRefused) {
  const TinyJob job;
  Program first(job.train("out", set("train.steps", "1000000")));
  ASSERT_TRUE(first.wait_until([&] { return !read_metrics(job.output("out")).empty(); }));
  expect_end(run_program(job.train("out")), 1, {"in use by another run", cat("process ", first.pid())});
}

TEST(BadOutput, AFullDiskKeepsWhatWasSaved) {
  const TinyJob job;
  // Room for one checkpoint of 400 KB and the logs, not for three.
  const std::string disk = job.output("disk"), mount = private_disk(disk, "-o size=1m");
  if (mount.empty()) GTEST_SKIP() << "this user may not mount a disk in a namespace of its own";
  const std::vector<std::string> arguments =
      join_arguments(job.train("disk/out"), {"--set", "checkpoint.interval=5"});
  const Outcome run = run_program(
      arguments, {.prefix = {"unshare", "-m", "sh", "-c",
                             cat(mount, " && { \"$@\"; code=$?; ls ", disk, "/out/checkpoints; exit $code; }"), "sh"}});
  expect_end(run, 1, {"No space left", "step_00000005"});
}

// ---- Checkpoints ----

// A run with checkpoints of steps 10 and 20.
std::vector<std::string> with_checkpoints(const TinyJob& job, const std::string& output) {
  return job.train(output, {"--set", "checkpoint.interval=10"});
}

void change_file(const std::string& path, const std::function<void(std::string&)>& change) {
  std::string bytes = read_whole_file(path);
  change(bytes);
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(BadCheckpoint, DamageFallsBackToTheOneBefore) {
  const TinyJob job;
  ASSERT_EQ(run_program(with_checkpoints(job, "good")).exit_code, 0);
  const auto expected = read_metrics(job.output("good"));
  const auto truncate = [](std::string& bytes) { bytes.resize(bytes.size() / 2); };
  const auto flip = [](std::string& bytes) { bytes[bytes.size() / 2] ^= 4; };
  for (const char* file : {"data_00000.bin", "manifest.pb"})
    for (const auto& change : {std::function<void(std::string&)>(truncate), std::function<void(std::string&)>(flip)}) {
      SCOPED_TRACE(file);
      std::filesystem::remove_all(job.output("out"));
      std::filesystem::copy(job.output("good"), job.output("out"), std::filesystem::copy_options::recursive);
      change_file(job.output("out") + "/checkpoints/step_00000020/" + file, change);
      const Outcome run = run_program(with_checkpoints(job, "out"));
      expect_end(run, 0, {"step_00000020", "is damaged and passed over", "resumed at step 10"});
      EXPECT_EQ(read_metrics(job.output("out")), expected);
    }
}

TEST(BadCheckpoint, AllDamagedIsAnErrorNotANewStart) {
  const TinyJob job;
  ASSERT_EQ(run_program(job.train("out")).exit_code, 0);
  change_file(job.output("out") + "/checkpoints/step_00000020/data_00000.bin", [](std::string& bytes) { bytes.resize(9); });
  expect_end(run_program(job.train("out", set("train.steps", "30"))), 1, {"no checkpoint can be read"});
  EXPECT_EQ(read_metrics(job.output("out")).size(), 20u);
}

// ---- A loss that is not finite ----

TEST(BadLoss, NamesTheFirstBadTensorAndKeepsTheLastCheckpoint) {
  for (const char* mesh : {"", "2"}) {
    const TinyJob job;
    std::vector<std::string> more = {"--set", "schedule.learning_rate=1e20", "--set", "checkpoint.interval=1"};
    if (*mesh) more = join_arguments(more, {"--virtual-devices", mesh});
    const Outcome run = run_program(job.train("out", more));
    expect_end(run, 1, {"the first value that is not finite", "on rank 0", "learning_rate", "step_00000001"});
  }
}

TEST(BadLoss, EndsAllMpiRanks) {
  if (!have_mpirun()) GTEST_SKIP() << "no MPI, or no mpirun on the path";
  const TinyJob job;
  const Outcome run = run_program(job.train("out", set("schedule.learning_rate", "1e20")), {.ranks = 2});
  expect_end(run, 1, {"the first value that is not finite"});
}

}  // namespace
}  // namespace tessera::test
