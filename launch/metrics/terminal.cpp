#include "launch/metrics/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "launch/checkpoint/file_system.h"

namespace tessera {
namespace {

// As in /proc/PID/stat, where the kernel keeps 15 letters.
constexpr std::array<std::string_view, 13> kLaunchers = {
    "mpirun",        "mpiexec", "orterun",    "prterun",       "orted",           "prted",
    "prte",          "srun",    "slurmstepd", "mpiexec.hydra", "hydra_pmi_proxy", "mpiexec.openmpi",
    "mpirun.openmpi"};

struct ProcessStatus {
  std::string name;
  pid_t parent = 0;
};

// "PID (NAME) STATE PPID ..."; NAME may hold spaces and parentheses, so the last ')' ends it.
std::optional<ProcessStatus> status_of(pid_t process) {
  std::string text;
  try {
    text = read_file(cat("/proc/", process, "/stat"));
  } catch (const IoError&) {
    return std::nullopt;
  }
  const size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
  ProcessStatus status{text.substr(open + 1, close - open - 1), 0};
  int parent = 0;
  if (std::sscanf(text.c_str() + close + 1, " %*c %d", &parent) != 1) return std::nullopt;
  status.parent = parent;
  return status;
}

bool is_launcher(std::string_view name) {
  return std::any_of(kLaunchers.begin(), kLaunchers.end(),
                     [&](std::string_view launcher) { return name == launcher.substr(0, 15); });
}

// Told by the kind of device, without opening it, which could steal a terminal.
bool is_terminal(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISCHR(status.st_mode)) return false;
  const unsigned kind = major(status.st_rdev);
  return kind == 4 || kind == 5 || (kind >= 136 && kind <= 143);  // tty, console, pts
}

// Where the launcher is on another host or hidden, the environment still tells that there is one.
bool launched_as_a_rank() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"})
    if (std::getenv(variable) != nullptr) return true;
  return false;
}

}  // namespace

std::optional<Launcher> find_launcher() {
  for (pid_t process = ::getppid(); process > 1;) {
    const auto status = status_of(process);
    if (!status) return std::nullopt;
    if (is_launcher(status->name)) return Launcher{process, status->name};
    process = status->parent;
  }
  return std::nullopt;
}

bool output_is_watched() {
  if (::isatty(STDOUT_FILENO) == 0) return false;
  const auto launcher = find_launcher();
  if (!launcher) return !launched_as_a_rank();
  return is_terminal(cat("/proc/", launcher->process, "/fd/1"));
}

int terminal_columns() {
  const auto launcher = find_launcher();
  const std::string path = cat("/proc/", launcher ? cat(launcher->process) : "self", "/fd/1");
  int columns = 0;
  if (const int terminal = ::open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
      terminal >= 0) {
    struct winsize size {};
    if (::ioctl(terminal, TIOCGWINSZ, &size) == 0) columns = size.ws_col;
    ::close(terminal);
  }
  return columns > 0 ? columns : 80;
}

}  // namespace tessera
