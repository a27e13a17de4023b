// The memory plan against what the kernel counts.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launch/program.h"
#include "tests/launch/tiny_job.h"

namespace tessera::test {
namespace {

// Some hundreds of MiB, so that what the process needs beside the plan is small change.
void expect_as_planned(const std::vector<std::string>& more, const ProgramOptions& options) {
  const TinyJob job;
  const std::string report = job.output("bench.json");
  std::vector<std::string> arguments = {"bench", job.path(), "--rounds", "1", "--json", report};
  for (const char* field : {"model.layers=3", "model.embed=512", "model.heads=8", "train.global_batch=16",
                            "train.sequence_length=256"}) {
    arguments.push_back("--set");
    arguments.push_back(field);
  }
  const Outcome outcome = run_program(join_arguments(arguments, more), options);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.all();
  const nlohmann::json json = nlohmann::json::parse(std::ifstream(report));
  const double planned = json["memory_planned_bytes"], used = json["memory_used_bytes"];
  EXPECT_GT(planned, 200e6);
  EXPECT_NEAR(used / planned, 1, 0.05) << "planned " << planned << ", used " << used;
}

TEST(Memory, ARealStepUsesWhatThePlanSays) { expect_as_planned({}, {}); }

// Ranks of a host map each other's buffers, which are not theirs.
TEST(Memory, BuffersOfPeersDoNotCount) {
  if (!have_mpirun()) GTEST_SKIP() << "no MPI, or no mpirun on the path";
  expect_as_planned({"--set", "model.layers=6"}, {.ranks = 2});
}

}  // namespace
}  // namespace tessera::test
