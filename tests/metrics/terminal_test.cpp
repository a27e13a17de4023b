// `auto` progress in the situations that matter, with a real mpirun and real pseudo-terminals. The
// ranks are this test program itself, running only the probe below.
#include "launch/metrics/terminal.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "core/base/strings.h"
#include "launch/metrics/progress.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

TEST(Terminal, DISABLED_Probe) {
  const auto launcher = find_launcher();
  std::printf("probe: isatty=%d launcher=%s mode=%s\n", ::isatty(1),
              launcher ? launcher->name.c_str() : "none",
              resolve_progress(ProgressMode::automatic) == ProgressMode::live ? "live" : "plain");
}

std::string probe_command() {
  return std::filesystem::read_symlink("/proc/self/exe").string() +
         " --gtest_filter=Terminal.DISABLED_Probe --gtest_also_run_disabled_tests --gtest_brief=1";
}

// --oversubscribe is Open MPI's; MPICH needs nothing.
std::string mpirun_command(int ranks) {
  const bool open_mpi = std::system("mpirun --version 2>/dev/null | grep -q 'Open MPI'") == 0;
  return cat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun ",
             open_mpi ? "--oversubscribe " : "", "-np ", ranks, " ", probe_command());
}

bool has_open_mpi() {
  return std::system("mpirun --version 2>/dev/null | grep -q 'Open MPI'") == 0;
}

// The variables of a launcher around this test must not reach what it starts.
constexpr const char* kClean =
    "for v in $(env | grep -oE '^(OMPI|PMIX|PMI|ORTE)[A-Z0-9_]*'); do unset $v; done; ";

// Runs a shell command whose standard output is a new terminal, and returns what appears there.
std::string on_a_terminal(const std::string& command) {
  int terminal;
  struct winsize size {
    .ws_row = 24, .ws_col = 123, .ws_xpixel = 0, .ws_ypixel = 0
  };
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", (kClean + command).c_str(), nullptr);
    ::_exit(127);
  }
  std::string text;
  char block[4096];
  for (ssize_t count; (count = ::read(terminal, block, sizeof block)) > 0;)
    text.append(block, static_cast<size_t>(count));
  ::waitpid(child, nullptr, 0);
  ::close(terminal);
  return text;
}

// The same with a file.
std::string to_a_file(const std::string& command) {
  TempFolder folder;
  const std::string path = folder / "out";
  const std::string line = cat(kClean, "( ", command, " ) > ", path, " 2>&1 < /dev/null");
  EXPECT_EQ(std::system(line.c_str()), 0);
  return read_whole_file(path);
}

// Open MPI 5's mpirun becomes its launcher's own program.
bool mpirun_said(const std::string& text, const std::string& terminal, const std::string& mode) {
  for (const char* launcher : {"mpirun", "prterun"})
    if (text.find(cat("probe: ", terminal, " launcher=", launcher, " ", mode)) != std::string::npos) return true;
  return false;
}

TEST(Terminal, AloneOnATerminalIsLive) {
  const std::string text = on_a_terminal(probe_command());
  EXPECT_NE(text.find("probe: isatty=1 launcher=none mode=live"), std::string::npos) << text;
}

TEST(Terminal, AloneIntoAFileIsPlain) {
  const std::string text = to_a_file(probe_command());
  EXPECT_NE(text.find("probe: isatty=0 launcher=none mode=plain"), std::string::npos) << text;
}

TEST(Terminal, MpirunOnATerminalIsLive) {
  if (!has_open_mpi()) GTEST_SKIP() << "no Open MPI here";
  const std::string text = on_a_terminal(mpirun_command(1));
  EXPECT_TRUE(mpirun_said(text, "isatty=1", "mode=live")) << text;
}

// The trap: the rank's own standard output is a terminal, though all goes to a file.
TEST(Terminal, MpirunIntoAFileIsPlain) {
  if (!has_open_mpi()) GTEST_SKIP() << "no Open MPI here";
  const std::string text = to_a_file(mpirun_command(2));
  EXPECT_TRUE(mpirun_said(text, "isatty=1", "mode=plain")) << text;
  EXPECT_EQ(text.find("mode=live"), std::string::npos) << text;
}

TEST(Terminal, MpirunOnATerminalIntoAFileIsPlain) {
  if (!has_open_mpi()) GTEST_SKIP() << "no Open MPI here";
  TempFolder folder;
  on_a_terminal(mpirun_command(1) + " > " + (folder / "out"));
  EXPECT_NE(read_whole_file(folder / "out").find("mode=plain"), std::string::npos);
}

// A launcher that shows itself only in the environment (srun) is not trusted.
TEST(Terminal, UnseenLauncherIsPlain) {
  const std::string text = on_a_terminal("PMIX_RANK=0 " + probe_command());
  EXPECT_NE(text.find("probe: isatty=1 launcher=none mode=plain"), std::string::npos) << text;
}

TEST(Terminal, AskedForWins) {
  EXPECT_EQ(resolve_progress(ProgressMode::live), ProgressMode::live);
  EXPECT_EQ(resolve_progress(ProgressMode::plain), ProgressMode::plain);
}

}  // namespace
}  // namespace tessera
