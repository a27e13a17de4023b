#include "tests/comm/mpi_run.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/log.h"
#include "core/base/strings.h"
#include "kernels/comm/mpi_world.h"

namespace tessera::test {
namespace {

// Open MPI reads these, others ignore them: root and oversubscription allowed, no binding, and only
// the transports of one machine, which start three times faster than probing for networks.
constexpr const char* kOpenMpi =
    "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
    "OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none "
    "OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader";

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

bool have_mpirun() {
  return mpi_library_version() != "none" && system("command -v mpirun > /dev/null 2>&1") == 0;
}

MpiRun run_under_mpi(int ranks, const std::string& scenario, const std::string& environment,
                     const std::string& prefix) {
  std::string folder = (std::filesystem::temp_directory_path() / "tessera-mpi-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return {};
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command =
      cat("env ", kOpenMpi, " ", environment, " TESSERA_MPI_SCENARIO=", scenario,
          " TESSERA_MPI_FOLDER=", folder, " ", prefix, " timeout -k 5 120 mpirun -np ", ranks, " ",
          program, " --gtest_brief=1 --gtest_filter=MpiWorker.", scenario, " 2>&1 < /dev/null");
  MpiRun run;
  const auto begin = std::chrono::steady_clock::now();
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> buffer;
  size_t bytes;
  while ((bytes = fread(buffer.data(), 1, buffer.size(), pipe)) > 0)
    run.output.append(buffer.data(), bytes);
  const int status = pclose(pipe);
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (int rank = 0; rank < ranks; ++rank)
    run.logs.push_back(read_file(cat(folder, "/rank_", rank, ".log")));
  std::filesystem::remove_all(folder);
  return run;
}

bool is_mpi_worker(const std::string& scenario) {
  const char* wanted = getenv("TESSERA_MPI_SCENARIO");
  if (wanted == nullptr || scenario != wanted) return false;
  const char* rank = getenv("OMPI_COMM_WORLD_RANK");
  if (rank == nullptr) rank = getenv("PMI_RANK");
  LogConfig config;
  config.file = cat(getenv("TESSERA_MPI_FOLDER"), "/rank_", rank, ".log");
  config.rank = atoi(rank);
  init_logging(config);
  return true;
}

}  // namespace tessera::test
