#include "kernels/comm/mpi/mpi_library.h"

#include <dlfcn.h>
#include <mpi.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/comm/mpi/mpi_support.h"
#include "kernels/comm/mpi_world.h"

namespace tessera {

MpiLibrary::MpiLibrary() {
  int initialized = 0, finalized = 0, provided = 0;
  MPI_Finalized(&finalized);
  TESSERA_CHECK(!finalized, "MPI cannot be used again after its World was destroyed");
  MPI_Initialized(&initialized);
  owned_ = !initialized;
  if (owned_)
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  else
    MPI_Query_thread(&provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_FUNNELED)
    log_warning(
        "MPI: this library promises no thread support; the watchdog thread calls it only to "
        "abort");
}

MpiLibrary::~MpiLibrary() {
  if (owned_ && in_order_) MPI_Finalize();
}

void terminate_job(int code) {
  std::thread([code] {
    std::this_thread::sleep_for(std::chrono::seconds(3));
    _exit(code);
  }).detach();
  MPI_Abort(MPI_COMM_WORLD, code);
  _exit(code);
}

std::string mpi_library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING + 1] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string whole(text, static_cast<size_t>(length));
  return whole.substr(0, whole.find_first_of(",\n\r"));
}

std::string mpi_library_path() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&MPI_Get_library_version), &info) == 0 || !info.dli_fname) return "";
  return info.dli_fname;
}

}  // namespace tessera
