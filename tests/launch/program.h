// Runs the real `tessera`, alone or under the real mpirun, and looks at what it said.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/data/temp_folder.h"

namespace tessera::test {

struct ProgramOptions {
  int ranks = 0;  // > 0: under mpirun
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> prefix;  // a command put before all
  std::vector<std::string> rank_prefix;  // one put before each rank's tessera
};

struct Outcome {
  int exit_code = -1;  // 128 + signal where one ended it; -1 where the test lost its patience
  std::string out, err;
  double seconds = 0;

  std::string all() const { return out + err; }
  bool says(const std::string& text) const { return all().find(text) != std::string::npos; }
  int times_said(const std::string& text) const;
};

// One running program. Its destructor ends what is left of it.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});
  Program(const Program&) = delete;
  ~Program();

  // The process started: tessera, or mpirun.
  pid_t pid() const { return pid_; }
  // The tessera processes below it, by rank; itself without mpirun.
  std::vector<pid_t> ranks() const;
  void send(int signal) const;
  // Ends mpirun and all ranks at once, as a power cut would.
  void kill_all() const;
  // Waits until `ready` (polled) or the end of the program; false where it was the end.
  bool wait_until(const std::function<bool()>& ready, double timeout = 120);
  Outcome wait(double timeout = 180);

 private:
  bool ended();

  TempFolder folder_;
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
  double start_ = 0;
};

Outcome run_program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

// True where this build has MPI and mpirun can be found.
bool have_mpirun();

// Tests that run under mpirun.
class MpiTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!have_mpirun()) GTEST_SKIP() << "no MPI, or no mpirun on the path";
  }
};

// A line of metrics.jsonl without what depends on the clock.
struct MetricsLine {
  int step = 0;
  std::string numbers;  // loss, grad_norm, lr and eval_loss, with all digits
  double loss = 0;
  bool operator==(const MetricsLine&) const = default;
};
std::ostream& operator<<(std::ostream& out, const MetricsLine& line);

// Of an output folder; empty where there is no such file yet. A half written last line is left out.
std::vector<MetricsLine> read_metrics(const std::string& output);

}  // namespace tessera::test
