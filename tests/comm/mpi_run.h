// Runs one test of this program on several ranks under the real mpirun.
#pragma once

#include <string>
#include <vector>

namespace tessera::test {

struct MpiRun {
  int exit_code = -1;
  std::string output;             // of all ranks, both streams
  std::vector<std::string> logs;  // by rank: what init_logging wrote
  double seconds = 0;
};

// Runs the test MpiWorker.`scenario` on `ranks` processes. `environment` is "NAME=value" words;
// `prefix` is a command put before mpirun.
MpiRun run_under_mpi(int ranks, const std::string& scenario, const std::string& environment = "",
                     const std::string& prefix = "");

// True in a process that run_under_mpi started for `scenario`; opens its log.
bool is_mpi_worker(const std::string& scenario);

// True where this build has MPI and mpirun can be found.
bool have_mpirun();

}  // namespace tessera::test
