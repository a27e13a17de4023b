// What the environment says about how this process was launched.
#pragma once

namespace tessera {

// True where an MPI launcher (mpirun, mpiexec, srun with PMI) started this process.
bool launched_by_mpi();

// ConfigError where the launcher's variables say that several tasks were started while MPI sees
// `mpi_size` == 1: each of them would train alone and overwrite the others' output. A Slurm without
// PMIx does this, and so does another MPI's mpirun. `built_with_mpi` only changes the advice.
void check_launcher(int mpi_size, bool built_with_mpi);

}  // namespace tessera
