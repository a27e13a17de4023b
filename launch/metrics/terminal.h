// Whether anyone watches: is the output that the user sees a terminal?
//
// Asking isatty(1) is not enough under mpirun. Open MPI gives each rank a pseudo-terminal as its
// standard output, even where mpirun's own is a file, and copies what arrives; so the launcher's
// standard output counts. It is found among this process's ancestors in /proc.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace tessera {

// The nearest ancestor of this process that launched it as a rank (mpirun, mpiexec, orterun,
// prterun, srun, a daemon of theirs, ...); nullopt where there is none.
struct Launcher {
  pid_t process = 0;
  std::string name;
};
std::optional<Launcher> find_launcher();

// Whether a live line would be seen by a person: this process's standard output is a terminal, and
// so is the launcher's, if there is one. False wherever it cannot be told.
bool output_is_watched();

// Columns of the terminal that is watched; 80 where it does not say.
int terminal_columns();

}  // namespace tessera
