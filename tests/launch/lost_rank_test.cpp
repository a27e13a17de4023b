// A rank that dies or hangs: the others name it and end.
#include <gtest/gtest.h>
#include <signal.h>

#include "core/base/strings.h"
#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

class LostRank : public MpiTest {
 protected:
  // Sends `signal` to rank 1 of two after a few steps.
  Outcome lose(const TinyJob& job, int signal) {
    Program program(job.train("out", {"--set", "train.steps=1000000", "--set", "train.timeout_seconds=3"}), {.ranks = 2});
    EXPECT_TRUE(program.wait_until([&] { return read_metrics(job.output("out")).size() >= 5; }));
    const auto ranks = program.ranks();
    EXPECT_EQ(ranks.size(), 2u);
    ::kill(ranks.back(), signal);
    return program.wait(60);
  }
};

TEST_F(LostRank, StoppedIsNamedAndTheJobEndsWith124) {
  const TinyJob job;
  const Outcome run = lose(job, SIGSTOP);
  EXPECT_EQ(run.exit_code, 124) << run.all();
  const std::string log = read_whole_file(job.output("out") + "/logs/rank_00000.log");
  EXPECT_NE(log.find("ank 1"), std::string::npos) << log << run.all();
}

TEST_F(LostRank, KilledIsNamed) {
  const TinyJob job;
  const Outcome run = lose(job, SIGKILL);
  EXPECT_GT(run.exit_code, 0) << run.all();
  const std::string log = read_whole_file(job.output("out") + "/logs/rank_00000.log");
  EXPECT_NE((log + run.all()).find("rank 1"), std::string::npos) << log << run.all();
}

}  // namespace
}  // namespace tessera::test
