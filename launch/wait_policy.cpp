#include "launch/wait_policy.h"

#include <sys/auxv.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <initializer_list>

namespace tessera {

void bound_spinning(char** argv) {
  for (const char* chosen : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"})
    if (std::getenv(chosen) != nullptr) return;
  // Without a loader of its own this process is the loader, which would take the verb for a program.
  if (::getauxval(AT_BASE) == 0) return;
  // The real path, so that the process keeps its name.
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = '\0';
  if (::setenv("GOMP_SPINCOUNT", "1000", /*overwrite=*/0) != 0) return;
  ::execv(path, argv);
}

}  // namespace tessera
