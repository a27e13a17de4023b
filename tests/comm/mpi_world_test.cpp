#include "kernels/comm/mpi_world.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <initializer_list>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "kernels/comm/launcher.h"
#include "tests/comm/mpi_run.h"

namespace tessera {
namespace {

using test::MpiRun;
using test::run_under_mpi;

class MpiWorld : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::have_mpirun()) GTEST_SKIP() << "this build has no MPI, or mpirun is not on the path";
  }
};

void expect_passed(const MpiRun& run) {
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_NE(run.output.find("PASSED"), run.output.npos) << run.output;
  EXPECT_EQ(run.output.find("SKIPPED"), run.output.npos) << run.output;
}

TEST_F(MpiWorld, CollectivesInOneHost) {
  for (const int ranks : {2, 3, 4}) expect_passed(run_under_mpi(ranks, "Collectives"));
}

TEST_F(MpiWorld, CollectivesBetweenHosts) {
  expect_passed(run_under_mpi(2, "Collectives", "TESSERA_FAKE_HOST=a,b"));
  expect_passed(run_under_mpi(4, "Collectives", "TESSERA_FAKE_HOST=a,a,b,b"));
}

TEST_F(MpiWorld, CollectivesBetweenUnevenAndInterleavedHosts) {
  expect_passed(run_under_mpi(3, "Collectives", "TESSERA_FAKE_HOST=a,a,b"));
  expect_passed(run_under_mpi(4, "Collectives", "TESSERA_FAKE_HOST=a,b,a,b"));
}

TEST_F(MpiWorld, CollectivesThroughFilesInDevShm) {
  expect_passed(run_under_mpi(2, "Collectives", "TESSERA_TEST_MEMORY=shm"));
  EXPECT_NE(std::system("ls /dev/shm | grep -Eq '^tessera-[0-9a-f]+-[0-9]+-'"), 0) << "files were left behind";
}

TEST_F(MpiWorld, CollectivesWithoutSharedMemoryWarn) {
  const MpiRun run =
      run_under_mpi(3, "Collectives", "TESSERA_TEST_MEMORY=none TESSERA_FAKE_HOST=a");
  expect_passed(run);
  EXPECT_NE(run.logs[0].find("cannot share memory"), std::string::npos) << run.logs[0];
}

TEST_F(MpiWorld, SmallDevShm) {
  // A default container's /dev/shm, in a mount namespace of its own. The symmetric arenas of the
  // test are 32 MB per rank.
  if (std::system("unshare -m sh -c 'mount -t tmpfs -o size=64m tmpfs /dev/shm' 2>/dev/null") != 0)
    GTEST_SKIP() << "this user may not make a mount namespace, so /dev/shm keeps its size";
  expect_passed(run_under_mpi(4, "Collectives", "",
                              "unshare -m sh -c 'mount -t tmpfs -o size=64m tmpfs /dev/shm && "
                              "exec \"$@\"' sh"));
}

TEST_F(MpiWorld, SumsAreBitwiseEqualOnAllRanks) {
  expect_passed(run_under_mpi(4, "BitwiseEqual"));
  expect_passed(run_under_mpi(4, "BitwiseEqual", "TESSERA_FAKE_HOST=a,a,b,b"));
  expect_passed(run_under_mpi(3, "BitwiseEqual", "TESSERA_FAKE_HOST=a,b,c"));
}

TEST_F(MpiWorld, GroupsInterleave) {
  expect_passed(run_under_mpi(4, "Interleaved"));
  expect_passed(run_under_mpi(4, "Interleaved", "TESSERA_FAKE_HOST=a,b,b,a"));
}

// All that a survivor's log must say about a stopped rank 1.
void expect_named(const std::string& log) {
  EXPECT_NE(log.find("rank 1"), log.npos) << log;
  EXPECT_NE(log.find("all_reduce #4 of 'layers/4/w'"), log.npos) << log;
  EXPECT_NE(log.find("group 'data'"), log.npos) << log;
  EXPECT_NE(log.find("all_reduce #3 of 'layers/3/w'"), log.npos) << log;
}

TEST_F(MpiWorld, AStoppedRankIsNamedAndTheJobEndsWith124) {
  const MpiRun run = run_under_mpi(3, "Stop", "TESSERA_TEST_TIMEOUT=2");
  EXPECT_EQ(run.exit_code, 124) << run.output;
  EXPECT_LT(run.seconds, 30);
  expect_named(run.logs[0]);
  expect_named(run.logs[2]);
}

TEST_F(MpiWorld, ARankLostInComputeIsNamed) {
  const MpiRun run = run_under_mpi(2, "Hang", "TESSERA_TEST_TIMEOUT=2");
  EXPECT_EQ(run.exit_code, 124) << run.output;
  expect_named(run.logs[0]);
  expect_named(run.logs[1]);
}

TEST_F(MpiWorld, AStoppedRankOnAnotherHostIsNamed) {
  const MpiRun run = run_under_mpi(2, "Stop", "TESSERA_TEST_TIMEOUT=3 TESSERA_FAKE_HOST=a,b");
  EXPECT_EQ(run.exit_code, 124) << run.output;
  EXPECT_NE(run.logs[0].find("rank 1"), std::string::npos) << run.logs[0];
  EXPECT_NE(run.logs[0].find("all_reduce #4 of 'layers/4/w'"), std::string::npos) << run.logs[0];
}

TEST_F(MpiWorld, ARankLostInComputeOnAnotherHostIsNamedWithWhatItDidLast) {
  const MpiRun run = run_under_mpi(4, "Hang", "TESSERA_TEST_TIMEOUT=3 TESSERA_FAKE_HOST=a,b,a,b");
  EXPECT_EQ(run.exit_code, 124) << run.output;
  for (const int rank : {0, 2, 3})
    EXPECT_NE(run.logs[static_cast<size_t>(rank)].find("rank 1"), std::string::npos)
        << run.logs[static_cast<size_t>(rank)];
}

TEST_F(MpiWorld, AKilledRankIsNamed) {
  const MpiRun run = run_under_mpi(3, "Kill", "TESSERA_TEST_TIMEOUT=60");
  EXPECT_NE(run.exit_code, 0);
  EXPECT_LT(run.seconds, 30);
  // mpirun ends the survivors as well: Open MPI's by SIGTERM first, MPICH's by SIGKILL at once.
  if (mpi_library_version().rfind("Open MPI", 0) != 0) return;
  const std::string logs = run.logs[0] + run.logs[2];
  EXPECT_NE(logs.find("rank 1 (process "), logs.npos) << logs << run.output;
  EXPECT_NE(logs.find("died"), logs.npos) << logs;
}

TEST_F(MpiWorld, AnAbortReachesThePeersAtOnce) {
  for (const char* hosts : {"", "TESSERA_FAKE_HOST=a,b,a"}) {
    const MpiRun run = run_under_mpi(3, "Throw", hosts);
    EXPECT_EQ(run.exit_code, 1) << run.output;
    EXPECT_LT(run.seconds, 20);
    for (const int rank : {0, 2})
      EXPECT_NE(run.logs[static_cast<size_t>(rank)].find("got: rank 1 failed: the disk is full"),
                std::string::npos)
          << hosts << run.logs[static_cast<size_t>(rank)] << run.output;
  }
}

TEST_F(MpiWorld, TheTimeoutCanBeSetLater) {
  const MpiRun run = run_under_mpi(2, "LateTimeout");
  EXPECT_EQ(run.exit_code, 124) << run.output;
  EXPECT_NE(run.logs[0].find("rank 1 lags"), std::string::npos) << run.logs[0];
  EXPECT_NE(run.logs[0].find("barrier"), std::string::npos) << run.logs[0];
}

// Sets variables for one test and takes them away again.
class Environment {
 public:
  using Variable = std::pair<const char*, const char*>;
  explicit Environment(std::initializer_list<Variable> variables) {
    for (const auto& [name, value] : variables) {
      setenv(name, value, 1);
      names_.push_back(name);
    }
  }
  Environment(const Environment&) = delete;
  ~Environment() {
    for (const char* name : names_) unsetenv(name);
  }

 private:
  std::vector<const char*> names_;
};

std::string refusal(bool built_with_mpi = true) {
  try {
    check_launcher(1, built_with_mpi);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Launcher, SlurmWithoutPmixIsRefused) {
  const Environment set({{"SLURM_NTASKS", "4"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "2"}});
  EXPECT_NE(refusal().find("SLURM_NTASKS=4"), std::string::npos);
  EXPECT_NE(refusal().find("srun --mpi=pmix"), std::string::npos);
  EXPECT_NE(refusal(false).find("no MPI"), std::string::npos);
  check_launcher(4, true);
}

TEST(Launcher, TheStepsOwnCountDecides) {
  const Environment set(
      {{"SLURM_NTASKS", "4"}, {"SLURM_STEP_ID", "3"}, {"SLURM_STEP_NUM_TASKS", "1"}});
  EXPECT_EQ(refusal(), "");
}

TEST(Launcher, MpirunOfOneTaskInsideAnAllocationIsFine) {
  const Environment set(
      {{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}});
  EXPECT_EQ(refusal(), "");
}

TEST(Launcher, APlainStartInABatchScriptIsRefused) {
  const Environment set({{"SLURM_NTASKS", "4"}});
  EXPECT_NE(refusal().find("mpirun -np 1"), std::string::npos);
}

TEST(Launcher, AnotherMpisMpirunIsRefused) {
  for (const char* name : {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE"}) {
    const Environment set({{name, "2"}});
    EXPECT_NE(refusal().find(std::string(name) + "=2"), std::string::npos);
  }
}

TEST(Launcher, PlainRunsHaveOneRank) {
  const auto world = create_mpi_world();
  EXPECT_EQ(world->size(), 1);
  EXPECT_EQ(world->local_size(), 1);
  world->barrier();
}

}  // namespace
}  // namespace tessera
