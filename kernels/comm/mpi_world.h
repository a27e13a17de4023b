// Ranks as processes under mpirun (or srun): the World of real training.
//
// Within a host, collectives run in shared memory (core/runtime/shared_group.h); between hosts they
// are MPI messages with reductions of our own fixed order. A watchdog thread names a rank that lags
// or died, and ends the job. docs/communication.md tells the whole.
//
// Where MPI was not found at build time, kernels/comm/no_mpi has the same symbols.
#pragma once

#include <memory>
#include <string>

#include "core/runtime/communicator.h"

namespace tessera {

// How the ranks of a host share memory. `automatic` tries memfd (not limited by the size of
// /dev/shm), then files in /dev/shm, then warns and leaves all traffic to MPI.
enum class HostMemory { automatic, memfd, shm_file, none };

struct MpiOptions {
  // A rank that holds its peers up for longer is named in the log, and the job ends with exit code
  // 124. 0: never.
  double timeout_seconds = 600;
  HostMemory host_memory = HostMemory::automatic;
  // The IPv4 interface or address of the side channel between hosts; empty: found by host name.
  std::string interface;
  // For tests: ranks whose strings differ act as if on different hosts. Empty: the environment
  // variable TESSERA_FAKE_HOST, in which a list "a,a,b,b" is by rank.
  std::string host_override;
};

// Initialises MPI (thread level FUNNELED: only the calling thread may use the World) and gives this
// process's World; its destructor finalises MPI. Not launched by an MPI launcher, it gives a world
// of one rank without touching MPI. ConfigError where the launcher's variables contradict MPI.
// Destroyed during an exception, or after abort(), it does not wait for peers; the program should
// then exit with a non-zero code.
std::unique_ptr<World> create_mpi_world(const MpiOptions& options = {});

// "Open MPI v4.1.4 ..." or "none": the library that is linked.
std::string mpi_library_version();
// The file that it was loaded from; "" without one. Several may be on a machine.
std::string mpi_library_path();

// The MPI library's own all-reduce of f32 sums over all ranks, in place: what ours is measured
// against. InternalError where `world` is not of MPI.
void mpi_library_all_reduce(World& world, float* values, int64_t count);

}  // namespace tessera
