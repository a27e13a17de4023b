#include "kernels/comm/launcher.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/base/error.h"

namespace tessera {
namespace {

// Variables that hold the number of processes. Open MPI; MPICH, Intel MPI and Slurm's PMI; MVAPICH.
constexpr std::array kSizeVariables = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"};

int64_t number_in(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? -1 : std::atoll(text);
}

bool is_set(const char* variable) { return std::getenv(variable) != nullptr; }

[[noreturn]] void refuse(const char* variable, int64_t tasks, bool built_with_mpi, bool slurm) {
  std::string advice;
  if (!built_with_mpi)
    advice =
        "This build has no MPI: install libopenmpi-dev (or load your site's MPI module), "
        "configure again and rebuild";
  else if (slurm)
    advice =
        "Launch with `srun --mpi=pmix` (`srun --mpi=list` shows whether this Slurm has it), or "
        "with mpirun inside the allocation; for one rank on purpose, `srun -n 1 --mpi=pmix` or "
        "`mpirun -np 1`";
  else
    advice =
        "Launch with the mpirun of the MPI that this program was built with (see `tessera "
        "--version`); under Slurm, with `srun --mpi=pmix`";
  throw_config_error(
      "launcher: ", variable, "=", tasks, " says that ", tasks,
      " tasks were started, but MPI says 1: each would train alone and overwrite the "
      "others' output. ",
      advice, ".");
}

// srun's own count where there is one, else the allocation's. A plain start inside a batch script
// or an allocation's shell counts too: whoever asked for several tasks did not mean one trainer.
int64_t slurm_tasks() {
  const int64_t of_step = number_in("SLURM_STEP_NUM_TASKS");
  return of_step > 0 ? of_step : number_in("SLURM_NTASKS");
}

}  // namespace

bool launched_by_mpi() {
  for (const char* variable : kSizeVariables)
    if (is_set(variable)) return true;
  return is_set("PMIX_RANK") || is_set("PMI_RANK") || is_set("PMI_FD") || is_set("PALS_RANKID");
}

void check_launcher(int mpi_size, bool built_with_mpi) {
  if (mpi_size > 1) return;
  for (const char* variable : kSizeVariables) {
    const int64_t tasks = number_in(variable);
    if (tasks > 1) refuse(variable, tasks, built_with_mpi, false);
    if (tasks == 1) return;  // an MPI launcher of one task: Slurm's variables are the allocation's
  }
  const int64_t tasks = slurm_tasks();
  if (tasks > 1)
    refuse(number_in("SLURM_STEP_NUM_TASKS") > 0 ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS", tasks,
           built_with_mpi, true);
}

}  // namespace tessera
