#include "tests/launch/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/strings.h"
#include "kernels/comm/mpi_world.h"

namespace tessera::test {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Containers: as root, more ranks than cores, no binding; and only the transports of one machine,
// which start faster than a probe for networks.
const std::vector<std::pair<std::string, std::string>> kMpiEnvironment = {
    {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
    {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
    {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
    {"OMPI_MCA_hwloc_base_binding_policy", "none"},
    {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
    {"OMPI_MCA_pml", "ob1"},
    {"OMPI_MCA_btl", "self,vader"},
};

// What /proc tells of a process.
struct ProcessFacts {
  pid_t pid = 0, parent = 0;
  std::string name;
};

std::vector<ProcessFacts> all_processes() {
  std::vector<ProcessFacts> all;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string number = entry.path().filename();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    // "12 (name) S 1 ..."
    const std::string text = read_whole_file(entry.path() / "stat");
    const size_t open = text.find('('), close = text.rfind(')');
    if (open == std::string::npos || close == std::string::npos) continue;
    std::istringstream rest(text.substr(close + 1));
    ProcessFacts facts{.pid = std::stoi(number), .name = text.substr(open + 1, close - open - 1)};
    std::string state;
    rest >> state >> facts.parent;
    if (state != "Z") all.push_back(facts);
  }
  return all;
}

std::vector<ProcessFacts> descendants(pid_t root) {
  const std::vector<ProcessFacts> all = all_processes();
  std::vector<ProcessFacts> found;
  std::vector<pid_t> open = {root};
  while (!open.empty()) {
    const pid_t parent = open.back();
    open.pop_back();
    for (const ProcessFacts& facts : all)
      if (facts.parent == parent) {
        found.push_back(facts);
        open.push_back(facts.pid);
      }
  }
  return found;
}

// Of a process that a launcher started; 0 where it does not say.
int rank_of(pid_t pid) {
  const std::string environment = read_whole_file(cat("/proc/", pid, "/environ"));
  for (const std::string& word : split(environment, '\0'))
    for (const char* name : {"OMPI_COMM_WORLD_RANK=", "PMI_RANK="})
      if (word.rfind(name, 0) == 0) return std::stoi(word.substr(std::string(name).size()));
  return 0;
}

[[noreturn]] void execute(std::vector<std::string> words, const ProgramOptions& options,
                          const TempFolder& folder) {
  ::setpgid(0, 0);
  const int in = ::open("/dev/null", O_RDONLY);
  const int out = ::open((folder / "out").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int err = ::open((folder / "err").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(err, 2);
  for (const auto& [name, value] : kMpiEnvironment) ::setenv(name.c_str(), value.c_str(), 1);
  for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

Program::Program(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  std::vector<std::string> words = options.prefix;
  if (options.ranks > 0) {
    const std::vector<std::string> launcher = {"mpirun", "-np", std::to_string(options.ranks)};
    words.insert(words.end(), launcher.begin(), launcher.end());
  }
  words.insert(words.end(), options.rank_prefix.begin(), options.rank_prefix.end());
  words.push_back(TESSERA_PROGRAM);
  words.insert(words.end(), arguments.begin(), arguments.end());
  start_ = now();
  pid_ = ::fork();
  if (pid_ == 0) execute(std::move(words), options, folder_);
}

Program::~Program() {
  if (ended()) return;
  kill_all();
  ::waitpid(pid_, &status_, 0);
}

std::vector<pid_t> Program::ranks() const {
  std::vector<std::pair<int, pid_t>> found;
  for (const ProcessFacts& facts : descendants(pid_))
    if (facts.name == "tessera") found.emplace_back(rank_of(facts.pid), facts.pid);
  if (found.empty()) return {pid_};
  std::sort(found.begin(), found.end());
  std::vector<pid_t> pids;
  for (const auto& [rank, pid] : found) pids.push_back(pid);
  return pids;
}

void Program::send(int signal) const { ::kill(pid_, signal); }

void Program::kill_all() const {
  // mpirun first: it would start to tidy up when it sees its ranks go.
  const std::vector<ProcessFacts> below = descendants(pid_);
  ::kill(pid_, SIGKILL);
  for (const ProcessFacts& facts : below) ::kill(facts.pid, SIGKILL);
}

bool Program::ended() {
  if (!ended_ && pid_ > 0) ended_ = ::waitpid(pid_, &status_, WNOHANG) == pid_;
  return ended_;
}

bool Program::wait_until(const std::function<bool()>& ready, double timeout) {
  for (const double end = now() + timeout; now() < end;) {
    if (ready()) return true;
    if (ended()) return ready();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

Outcome Program::wait(double timeout) {
  const bool in_time = wait_until([&] { return ended(); }, timeout);
  Outcome outcome{.out = read_whole_file(folder_ / "out"), .err = read_whole_file(folder_ / "err"),
                  .seconds = now() - start_};
  if (in_time)
    outcome.exit_code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return outcome;
}

int Outcome::times_said(const std::string& text) const {
  const std::string said = all();
  int times = 0;
  for (size_t at = said.find(text); at != std::string::npos; at = said.find(text, at + 1)) ++times;
  return times;
}

Outcome run_program(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  return Program(arguments, options).wait();
}

bool have_mpirun() {
  static const bool have =
      mpi_library_version() != "none" && std::system("command -v mpirun > /dev/null 2>&1") == 0;
  return have;
}

std::ostream& operator<<(std::ostream& out, const MetricsLine& line) {
  return out << "step " << line.step << ": " << line.numbers;
}

std::vector<MetricsLine> read_metrics(const std::string& output) {
  std::vector<MetricsLine> lines;
  const std::string text = read_whole_file(output + "/metrics.jsonl");
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    const nlohmann::json json = nlohmann::json::parse(text.substr(at, end - at));
    MetricsLine line{.step = json.at("step"), .loss = json.at("loss")};
    for (const char* key : {"loss", "grad_norm", "lr", "eval_loss"})
      if (json.contains(key)) line.numbers += cat(key, "=", json.at(key).dump(), " ");
    lines.push_back(line);
  }
  return lines;
}

}  // namespace tessera::test
