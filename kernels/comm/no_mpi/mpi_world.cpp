// Stands in for kernels/comm/mpi where no MPI was found: one rank, and a clear word under mpirun.
#include "kernels/comm/mpi_world.h"

#include "core/base/error.h"
#include "core/runtime/thread_world.h"
#include "kernels/comm/launcher.h"

namespace tessera {

std::unique_ptr<World> create_mpi_world(const MpiOptions&) {
  check_launcher(1, false);
  return create_single_world();
}

std::string mpi_library_version() { return "none"; }
std::string mpi_library_path() { return ""; }

void mpi_library_all_reduce(World&, float*, int64_t) {
  TESSERA_CHECK(false, "this build has no MPI");
}

}  // namespace tessera
