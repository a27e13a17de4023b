#include "launch/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/comm/launcher.h"
#include "launch/verbs/verbs.h"
#include "launch/wait_policy.h"
#include "launch/trainer/provenance.h"

namespace tessera {
namespace {

constexpr const char* kOverview =
    "Tessera trains language models on a mesh of devices.\n"
    "Write a job (model, data, optimizer, sharding) as protobuf text, then:\n\n"
    "  tessera train JOB.textproto                       one process\n"
    "  mpirun -np 4 tessera train JOB.textproto          four ranks\n"
    "  tessera plan JOB.textproto --devices 2048         no such machine needed\n"
    "  tessera hlo run STEP.hlo --devices 4              a program that JAX exported\n";

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 75 saved on request and to be\n"
    "requeued, 124 watchdog.";

// Short for --set device.backend=...
void add_device_option(CLI::App& app, std::vector<std::string>& sets) {
  app.add_option_function<std::string>(
         "--device", [&sets](const std::string& device) { sets.push_back("device.backend=" + device); },
         "what ranks compute on: cpu or cuda; default: the job's")
      ->check(CLI::IsMember({"cpu", "cuda"}));
}

void add_job_options(CLI::App& app, JobArguments& job) {
  app.add_option("JOB", job.job, "job file, protobuf text (proto/job.proto)")->required();
  app.add_option("--sharding", job.sharding_file,
                 "sharding file that replaces the job's own (launch/configs/sharding/)");
  app.add_option("--mesh", job.mesh, "mesh that replaces the sharding's, e.g. data=2,model=2; one size may be -1");
  app.add_option("--set", job.sets, "override one field: --set train.steps=100 (a.b[1].c=value, a+=value)")
      ->allow_extra_args(false);
  add_device_option(app, job.sets);
}

void add_json_option(CLI::App& app, std::string& json) {
  app.add_option("--json", json, "also write the report as JSON to FILE; - for standard output");
}

// What happens when the reader of our output goes away, as in `tessera plan ... | head -1`. A verb
// that reports has nothing more to do: it ends as any filter does, by SIGPIPE, also where it was
// started with the signal ignored. A training run is worth more than its progress lines, and a rank
// must not die of a peer's closed socket: they go on, and the log is in the output folder.
void choose_broken_pipe(bool trains) {
  std::signal(SIGPIPE, trains || launched_by_mpi() ? SIG_IGN : SIG_DFL);
}

// The verbs; each stores its action, which runs after parsing.
class CommandLine {
 public:
  CommandLine() : app_(kOverview, "tessera") {
    app_.require_subcommand(1);
    app_.footer(kExitCodes);
    app_.set_version_flag("--version", version_text());
    add_train();
    add_plan();
    add_eval();
    add_generate();
    add_inspect();
    add_bench();
    add_doctor();
    add_hlo();
  }

  int run(int argc, char** argv) {
    argv_ = argv;
    choose_broken_pipe(/*trains=*/false);
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (argc > 1 && argv[1][0] != '-' && !is_verb(app_, argv[1])) return unknown_verb(app_, "verb", argv[1]);
      if (argc > 2 && argv[1] == std::string("hlo") && argv[2][0] != '-' && !is_verb(*app_.get_subcommand("hlo"), argv[2]))
        return unknown_verb(*app_.get_subcommand("hlo"), "verb of hlo", argv[2]);
      // --help and --version come as errors of code 0.
      const int code = app_.exit(error);
      return code == 0 ? kExitDone : kExitUsage;
    }
    return action_();
  }

 private:
  static std::vector<std::string> verbs(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(verb->get_name());
    return names;
  }

  static bool is_verb(const CLI::App& app, const std::string& name) {
    const std::vector<std::string> known = verbs(app);
    return std::find(known.begin(), known.end(), name) != known.end();
  }

  static int unknown_verb(const CLI::App& app, const char* what, const std::string& given) {
    const std::vector<std::string> known = verbs(app);
    const std::string nearest = nearest_name(given, known);
    log_error("tessera: there is no ", what, " \"", given, "\"",
              nearest.empty() ? "" : cat("; did you mean \"", nearest, "\"?"),
              nearest.empty() ? "; the verbs are " + join(known) : "");
    return kExitUsage;
  }

  CLI::App& verb(const char* name, const char* text, std::function<int()> action) {
    CLI::App* sub = app_.add_subcommand(name, text);
    sub->callback([this, action = std::move(action)] { action_ = action; });
    return *sub;
  }

  // A verb whose kernels run: their threads are not to spin for long.
  CLI::App& computing_verb(const char* name, const char* text, std::function<int()> action) {
    return verb(name, text, [this, action = std::move(action)] {
      bound_spinning(argv_);
      return action();
    });
  }

  void add_train() {
    CLI::App& app = verb("train",
                         "Train the model of a job; resumes when its output folder holds a checkpoint.\n"
                         "Run it under mpirun for several ranks, or with --virtual-devices for ranks as\n"
                         "threads. SIGUSR1 saves and stops with exit code 75.",
                         [this] {
                           if (!train_.check) bound_spinning(argv_);
                           choose_broken_pipe(/*trains=*/!train_.check);
                           return run_train(train_);
                         });
    add_job_options(app, train_.job);
    app.add_flag("--check", train_.check, "validate, print the effective config with the origin of each value, stop");
    app.add_option("--virtual-devices", train_.virtual_devices, "ranks as threads of this one process (1 to 64)")
        ->check(CLI::Range(1, 64));
    app.add_option("--resume", train_.resume, "auto, must or never")->check(CLI::IsMember({"auto", "must", "never"}));
    app.add_option("--progress", train_.progress, "auto, live or plain")->check(CLI::IsMember({"auto", "live", "plain"}));
    app.add_flag("--strict", train_.strict,
                 "refuse to run an op of weight on a reference kernel, implicit reshards above\n"
                 "sharding.max_implicit_reshard_bytes, and much padding");
    app.add_option("--profile", train_.profile,
                   "write traces of a few steps, for ui.perfetto.dev, into this folder or .json file, and\n"
                   "print which ops take the time");
    app.add_option("--profile-steps", train_.profile_steps,
                   "the steps to profile, FIRST:LAST; default: the third to the fifth of the run");
    add_json_option(app, train_.json);
  }

  void add_plan() {
    CLI::App& app = verb("plan",
                         "Partition a job for a mesh and print what would run: shardings with reasons,\n"
                         "collectives with bytes, memory per device, predicted step time. Needs no MPI\n"
                         "and no such machine.",
                         [this] { return run_plan(plan_); });
    add_job_options(app, plan_.job);
    app.add_option("--devices", plan_.devices, "device count to plan for; fills a mesh axis of size -1");
    app.add_option("--graph", plan_.graph, "step, accumulate, evaluate or predict")
        ->check(CLI::IsMember({"step", "accumulate", "evaluate", "predict"}));
    app.add_option("--after", plan_.after, "print the graph as it is after this pass");
    app.add_option("--explain", plan_.explain, "print why tensors lie as they do: a name, a regular expression for names, or %12");
    app.add_option("--profile", plan_.profile, "machine model for predicted times");
    app.add_flag("--strict", plan_.strict,
                 "refuse what train --strict refuses: ops of weight on a reference kernel, implicit\n"
                 "reshards above sharding.max_implicit_reshard_bytes, much padding");
    add_json_option(app, plan_.json);
  }

  void add_eval() {
    CLI::App& app = computing_verb("eval", "Evaluate a checkpoint of a run on its held-out text.",
                                   [this] { return run_eval(eval_); });
    app.add_option("RUN", eval_.run, "output folder of a training run")->required();
    app.add_option("--step", eval_.step, "step of the checkpoint; default: the last");
    app.add_option("--set", eval_.sets, "override one field of the run's config")->allow_extra_args(false);
    add_device_option(app, eval_.sets);
    app.add_option("--sharding", eval_.sharding_file, "sharding file that replaces the run's");
    app.add_option("--mesh", eval_.mesh, "mesh that replaces the run's");
    app.add_option("--virtual-devices", eval_.virtual_devices, "ranks as threads of this one process")
        ->check(CLI::Range(1, 64));
    add_json_option(app, eval_.json);
  }

  void add_generate() {
    CLI::App& app = computing_verb("generate", "Sample text from a checkpoint of a run, on one process.",
                                   [this] { return run_generate(generate_); });
    app.add_option("RUN", generate_.run, "output folder of a training run")->required();
    app.add_option("--step", generate_.step, "step of the checkpoint; default: the last");
    app.add_option("--set", generate_.sets, "override one field of the run's config")->allow_extra_args(false);
    add_device_option(app, generate_.sets);
    app.add_option("--prompt", generate_.prompt, "text to continue");
    app.add_option("--tokens", generate_.tokens, "tokens to sample")->check(CLI::PositiveNumber);
    app.add_option("--temperature", generate_.temperature, "0 is greedy")->check(CLI::NonNegativeNumber);
    app.add_option("--top-k", generate_.top_k, "sample among the k likeliest; 0: all")->check(CLI::NonNegativeNumber);
    app.add_option("--seed", generate_.seed, "of the samples");
    add_json_option(app, generate_.json);
  }

  void add_inspect() {
    CLI::App& app = verb("inspect", "List the tensors of a checkpoint and check their checksums; or say who held up a job on GPUs that hung, from "
                                    "its flight records.",
                         [this] { return run_inspect(inspect_); });
    app.add_option("CHECKPOINT", inspect_.path, "a run's output folder, or one checkpoint in it; or a folder of flight records (OUT/flight)")->required();
    add_json_option(app, inspect_.json);
  }

  void add_bench() {
    CLI::App& app = computing_verb("bench",
                                   "Measure the training step of a job on random tokens: tokens/s, share of the\n"
                                   "machine's matrix-product peak measured in the same run, seconds by op. Under\n"
                                   "mpirun also all-reduce bandwidth, beside the MPI library's own.",
                                   [this] { return run_bench(bench_); });
    add_job_options(app, bench_.job);
    app.add_option("--rounds", bench_.rounds, "steps to measure")->check(CLI::PositiveNumber);
    add_json_option(app, bench_.json);
  }

  void add_doctor() {
    CLI::App& app = verb("doctor", "Say what this machine has and lacks for Tessera.",
                         [this] { return run_doctor(doctor_); });
    add_json_option(app, doctor_.json);
  }

  CLI::App& hlo_verb(const char* name, const char* text, const std::string& examples,
                     int (*run)(const HloArguments&), bool computes) {
    CLI::App* sub = app_.get_subcommand("hlo")->add_subcommand(name, text);
    sub->callback([this, run, computes] {
      action_ = [this, run, computes] {
        if (computes) bound_spinning(argv_);
        return run(hlo_);
      };
    });
    sub->footer(cat("Examples:\n", examples, "\n", kExitCodes));
    sub->add_option("FILE", hlo_.file, "HLO text, as JAX's lowered.as_text(dialect=\"hlo\") gives it; - for standard input")
        ->required();
    return *sub;
  }

  void add_hlo_devices(CLI::App& app) {
    app.add_option("--devices", hlo_.devices,
                   "devices to partition for; default: the ranks of mpirun, or else as many as\n"
                   "the module's shardings speak of")
        ->check(CLI::Range(1, 1024));
  }

  void add_hlo_inputs(CLI::App& app) {
    add_hlo_devices(app);
    app.add_option("--input", hlo_.inputs,
                   "NumPy files for the arrays among the entry's parameters, in order, or a folder of\n"
                   "input.0.npy, input.1.npy, ...; arrays that have none are random");
    app.add_option("--device", hlo_.device, "what ranks compute on: cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    app.add_option("--seed", hlo_.seed, "of the random inputs");
    app.add_flag("--integers", hlo_.integers, "random floats are whole numbers from -4 to 4, so that sums are exact");
    app.add_flag("--strict", hlo_.strict, "refuse ops of weight on a reference kernel, and much padding");
    app.add_flag("--check-passes", hlo_.check_passes, "verify the program after every pass, also a large one");
  }

  void add_hlo() {
    CLI::App* hlo = app_.add_subcommand("hlo", "Read, partition, run and check programs in HLO text, such as JAX exports.");
    hlo->require_subcommand(1);
    hlo->footer(cat("tessera hlo VERB --help shows examples.\n\n", kExitCodes));
    hlo_verb("print", "Parse a module and print it in canonical form.", "  tessera hlo print step.hlo\n", run_hlo_print,
             /*computes=*/false);
    CLI::App& shardings = hlo_verb(
        "shardings",
        "Print how every instruction of the entry lies after propagation, as tiles and by\n"
        "named axes.",
        "  tessera hlo shardings step.hlo --devices 8 --json -\n", run_hlo_shardings, /*computes=*/false);
    add_hlo_devices(shardings);
    add_json_option(shardings, hlo_.json);
    add_hlo_run();
    CLI::App& check = hlo_verb(
        "check",
        "Interpret a module as for one device, run it partitioned, and compare. Exit code 0:\n"
        "equal; 1: the first output that differs is printed; 2: what is not supported is listed.",
        "  tessera hlo check step.hlo --devices 4\n  mpirun -np 4 tessera hlo check step.hlo --json -\n", run_hlo_check,
        /*computes=*/true);
    add_hlo_inputs(check);
    add_json_option(check, hlo_.json);
  }

  void add_hlo_run() {
    CLI::App& app = hlo_verb("run",
                             "Partition a module and run it, on virtual devices or on the ranks of mpirun. Scalar\n"
                             "outputs, such as a loss, are printed after each step.",
                             "  tessera hlo run step.hlo --devices 4 --input x.npy w.npy --output-dir out\n"
                             "  mpirun -np 4 tessera hlo run step.hlo --steps 100 --carry\n",
                             run_hlo_run, /*computes=*/true);
    add_hlo_inputs(app);
    app.add_option("--output-dir", hlo_.output_folder, "write output.I.npy, logical tensors, into this folder");
    app.add_option("--steps", hlo_.steps, "how often to run it; without --carry on the same inputs each time")
        ->check(CLI::Range(1, std::numeric_limits<int>::max()));
    app.add_flag("--carry", hlo_.carry,
                 "outputs become inputs of the next step: donated ones, or those whose types are\n"
                 "the first parameters'");
    add_json_option(app, hlo_.json);
  }

  CLI::App app_;
  char** argv_ = nullptr;
  std::function<int()> action_;
  TrainArguments train_;
  PlanArguments plan_;
  EvalArguments eval_;
  GenerateArguments generate_;
  InspectArguments inspect_;
  BenchArguments bench_;
  DoctorArguments doctor_;
  HloArguments hlo_;
};

}  // namespace

int run_command_line(int argc, char** argv) {
  try {
    return CommandLine().run(argc, argv);
  } catch (const ConfigError& error) {
    log_error("tessera: ", error.what());
    flush_log();
    return kExitUsage;
  } catch (const std::exception& error) {
    log_error("tessera: ", error.what());
    flush_log();
    return kExitFailed;
  }
}

}  // namespace tessera
