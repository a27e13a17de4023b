// The program bounds the spinning of OpenMP threads before the library starts, where its kernels run;
// libgomp says what it was told, at each start.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

using Environment = std::vector<std::pair<std::string, std::string>>;

Outcome run_shown(const std::vector<std::string>& arguments, Environment environment = {},
                  std::vector<std::string> prefix = {}) {
  environment.emplace_back("OMP_DISPLAY_ENV", "verbose");
  return run_program(arguments, {.environment = environment, .prefix = std::move(prefix)});
}

constexpr const char* kStart = "OPENMP DISPLAY ENVIRONMENT BEGIN";
constexpr const char* kBound = "GOMP_SPINCOUNT = '1000'";

class WaitPolicy : public testing::Test {
 protected:
  void SetUp() override {
    if (!run_shown({"--version"}).says("GOMP_SPINCOUNT")) GTEST_SKIP() << "not GNU's OpenMP library";
  }

  std::vector<std::string> one_step(const std::string& output) const {
    return job_.train(output, set("train.steps", "1"));
  }
  // The run did its step, started `starts` times.
  void expect_trained(const std::string& output, const Outcome& run, int starts) const {
    EXPECT_EQ(run.exit_code, 0) << run.all();
    EXPECT_EQ(run.times_said(kStart), starts) << run.all();
    EXPECT_EQ(read_metrics(job_.output(output)).size(), 1u) << run.all();
  }

  TinyJob job_;
};

TEST_F(WaitPolicy, SpinningIsBoundedByOneNewStart) {
  const Outcome run = run_shown(one_step("out"));
  expect_trained("out", run, 2);
  EXPECT_EQ(run.times_said(kBound), 1) << run.all();
}

TEST_F(WaitPolicy, TheUsersChoiceStands) {
  const Outcome active = run_shown(one_step("active"), {{"OMP_WAIT_POLICY", "active"}});
  expect_trained("active", active, 1);
  EXPECT_TRUE(active.says("OMP_WAIT_POLICY = 'ACTIVE'")) << active.all();
  EXPECT_FALSE(active.says(kBound)) << active.all();
  const Outcome count = run_shown(one_step("count"), {{"GOMP_SPINCOUNT", "77"}});
  expect_trained("count", count, 1);
  EXPECT_TRUE(count.says("GOMP_SPINCOUNT = '77'")) << count.all();
}

TEST_F(WaitPolicy, WhatDoesNotComputeStartsOnce) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--version"}, {"train", "--help"}, {"inspect", job_.output("nowhere")},
        {"plan", job_.path(), "--devices", "1"}, job_.train("out", {"--check"})}) {
    const Outcome run = run_shown(arguments);
    EXPECT_EQ(run.times_said(kStart), 1) << run.all();
    EXPECT_FALSE(run.says(kBound)) << run.all();
  }
}

// The file behind /proc/self/exe is the loader's then.
TEST_F(WaitPolicy, AProgramRunByTheLoaderRunsAsItIs) {
  const std::string loader = "/lib64/ld-linux-x86-64.so.2";
  if (!std::filesystem::exists(loader)) GTEST_SKIP() << "no " << loader;
  expect_trained("out", run_shown(one_step("out"), {}, {loader}), 1);
}

}  // namespace
}  // namespace tessera::test
