// Signals: SIGUSR1 and, without mpirun, SIGTERM and SIGINT save and stop with 75; what goes on
// afterwards is bitwise what a run without interruption gives.
#include <gtest/gtest.h>
#include <signal.h>

#include "core/base/strings.h"
#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

// Runs for ever, as far as a test is concerned. The rate is constant, so that steps do not matter.
std::vector<std::string> endless(const TinyJob& job, const std::string& output, int steps) {
  return job.train(output, {"--set", cat("train.steps=", steps), "--set", "schedule.kind=constant"});
}

struct Interrupted {
  Outcome outcome;
  std::vector<MetricsLine> lines;
};

Interrupted interrupt(const TinyJob& job, const ProgramOptions& options, const std::function<void(Program&)>& signal) {
  Program program(endless(job, "out", 1000000), options);
  EXPECT_TRUE(program.wait_until([&] { return read_metrics(job.output("out")).size() >= 5; }));
  signal(program);
  return {program.wait(60), read_metrics(job.output("out"))};
}

// After an interruption: five steps more equal those of one run to the same step.
void expect_goes_on(const TinyJob& job, const ProgramOptions& options, const Interrupted& before) {
  const int steps = static_cast<int>(before.lines.size()) + 5;
  const Outcome rest = run_program(endless(job, "out", steps), options);
  ASSERT_EQ(rest.exit_code, 0) << rest.all();
  EXPECT_TRUE(rest.says(cat("resumed at step ", before.lines.size()))) << rest.all();
  const Outcome whole = run_program(endless(job, "whole", steps), options);
  ASSERT_EQ(whole.exit_code, 0) << whole.all();
  EXPECT_EQ(read_metrics(job.output("out")), read_metrics(job.output("whole")));
}

void expect_saved_and_75(const Interrupted& run) {
  EXPECT_EQ(run.outcome.exit_code, 75) << run.outcome.all();
  EXPECT_TRUE(run.outcome.says(cat("stopped on request at step ", run.lines.size()))) << run.outcome.all();
  EXPECT_TRUE(run.outcome.says("saved ")) << run.outcome.all();
}

class Signal : public testing::TestWithParam<int> {};

TEST_P(Signal, OneProcessSavesAndStops) {
  const TinyJob job;
  const Interrupted run = interrupt(job, {}, [](Program& program) { program.send(GetParam()); });
  expect_saved_and_75(run);
  expect_goes_on(job, {}, run);
}

INSTANTIATE_TEST_SUITE_P(Signals, Signal, testing::Values(SIGUSR1, SIGTERM, SIGINT));

class SignalUnderMpi : public MpiTest {};

TEST_F(SignalUnderMpi, Usr1ToMpirun) {
  const TinyJob job;
  const Interrupted run = interrupt(job, {.ranks = 2}, [](Program& program) { program.send(SIGUSR1); });
  expect_saved_and_75(run);
  expect_goes_on(job, {.ranks = 2}, run);
}

TEST_F(SignalUnderMpi, Usr1ToOneRank) {
  for (const size_t rank : {0, 1}) {
    const TinyJob job;
    const Interrupted run = interrupt(job, {.ranks = 2}, [&](Program& program) {
      const auto ranks = program.ranks();
      ASSERT_EQ(ranks.size(), 2u);
      ::kill(ranks[rank], SIGUSR1);
    });
    expect_saved_and_75(run);
  }
}

// mpirun gives its ranks two seconds; this small job saves in time, or says where it stands.
TEST_F(SignalUnderMpi, TermNamesTheLastSaveAndTheBetterSignal) {
  const TinyJob job;
  const Interrupted run = interrupt(job, {.ranks = 2}, [](Program& program) { program.send(SIGTERM); });
  EXPECT_NE(run.outcome.exit_code, 0) << run.outcome.all();
  // Open MPI 5 passes nothing on once it was told to end; the log has it all the same.
  const std::string said = run.outcome.all() + read_whole_file(job.output("out") + "/logs/rank_00000.log");
  EXPECT_NE(said.find("last saved step"), std::string::npos) << said;
  EXPECT_NE(said.find("SIGUSR1"), std::string::npos) << said;
  // Nothing is lost that was saved: the folder can be resumed or started anew.
  const Outcome rest = run_program(endless(job, "out", static_cast<int>(run.lines.size()) + 5), {.ranks = 2});
  EXPECT_EQ(rest.exit_code, 0) << rest.all();
}

}  // namespace
}  // namespace tessera::test
