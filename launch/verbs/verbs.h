// The verbs of `tessera`: what each takes, as plain structs. Each runs to an exit code, or throws.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

// How a verb that needs a job finds it.
struct JobArguments {
  std::string job;                // path of the job file
  std::string sharding_file;      // --sharding
  std::string mesh;               // --mesh
  std::vector<std::string> sets;  // --set, in order; --device is one of them
};

struct TrainArguments {
  JobArguments job;
  bool check = false;             // --check: print the effective config and stop
  int64_t virtual_devices = 0;    // --virtual-devices: ranks as threads of this process
  std::string resume;             // --resume auto|must|never; "": the job's
  std::string progress;           // --progress auto|live|plain; "": the job's
  bool strict = false;            // --strict: no slow kernel, large implicit reshard, much padding
  std::string profile;            // --profile: where traces of some steps are written; "": nowhere
  std::string profile_steps;      // --profile-steps FIRST:LAST; "": the third to the fifth
  std::string json;               // --json: a summary of the run
};

struct PlanArguments {
  JobArguments job;
  int64_t devices = 0;            // --devices; 0: the mesh's product
  std::string graph = "step";     // --graph step|accumulate|evaluate|predict
  std::string after;              // --after PASS: print the graph there
  std::string explain;            // --explain NAME: why this tensor lies as it does
  std::string profile;            // --profile: machine model; "": that of the job's device
  bool strict = false;            // --strict: refuse what train --strict refuses
  std::string json;
};

struct EvalArguments {
  std::string run;                // output folder of a run
  int64_t step = -1;              // --step: which checkpoint; -1: the last
  std::vector<std::string> sets;
  std::string sharding_file, mesh;
  int64_t virtual_devices = 0;
  std::string json;
};

struct GenerateArguments {
  std::string run;
  int64_t step = -1;
  std::vector<std::string> sets;  // of the run's config; --device is one of them
  std::string prompt;
  int64_t tokens = 200;
  double temperature = 0.8;       // 0: greedy
  int64_t top_k = 0;              // 0: all
  int64_t seed = 0;
  std::string json;
};

struct InspectArguments {
  std::string path;               // a run's folder or one checkpoint
  std::string json;
};

struct DoctorArguments {
  std::string json;
};

struct BenchArguments {
  JobArguments job;
  int64_t rounds = 9;             // --rounds: steps measured, each beside a probe of the peak
  std::string json;
};

// How the verbs of HLO text find their program, and what it is fed with.
struct HloArguments {
  std::string file;                 // of HLO text; "-": standard input
  int64_t devices = 0;              // --devices; 0: the ranks of mpirun, or what the module speaks of
  uint64_t seed = 0;                // --seed of the random inputs
  std::vector<std::string> inputs;  // --input A.npy ...
  bool integers = false;            // --integers: random floats are small whole numbers
  std::string device = "cpu";       // --device cpu|cuda
  std::string output_folder;        // --output-dir (run)
  int64_t steps = 1;                // --steps (run)
  bool carry = false;               // --carry: outputs are the next step's inputs (run)
  bool strict = false;              // --strict
  bool check_passes = false;        // --check-passes
  std::string json;
};

int run_train(const TrainArguments& arguments);
int run_plan(const PlanArguments& arguments);
int run_eval(const EvalArguments& arguments);
int run_generate(const GenerateArguments& arguments);
int run_inspect(const InspectArguments& arguments);
int run_bench(const BenchArguments& arguments);
int run_doctor(const DoctorArguments& arguments);
int run_hlo_print(const HloArguments& arguments);
int run_hlo_shardings(const HloArguments& arguments);
int run_hlo_run(const HloArguments& arguments);
int run_hlo_check(const HloArguments& arguments);

// While it lives and `json` is "-", what is printed goes to standard error, so that standard output
// holds the report alone.
class StandardOutputForReport {
 public:
  explicit StandardOutputForReport(const std::string& json);
  StandardOutputForReport(const StandardOutputForReport&) = delete;
  ~StandardOutputForReport();
};

// Writes `text` to FILE, or to standard output for "-"; throws UserError naming the file.
void write_report(const std::string& file, const std::string& text);

}  // namespace tessera
