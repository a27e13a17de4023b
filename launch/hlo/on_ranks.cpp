#include "launch/hlo/on_ranks.h"

#include <unistd.h>

#include <exception>
#include <optional>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/runtime/thread_world.h"
#include "kernels/comm/launcher.h"
#include "kernels/comm/mpi_world.h"
#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/file_system.h"
#include "launch/command_line.h"
#include "launch/engine/rank_device.h"
#include "launch/hlo/report_failure.h"

namespace tessera {
namespace {

PreparedProgram prepare(const std::string& text, const OnRanksOptions& options, const HloCompileOptions& compile,
                        const KernelTable& kernels) {
  HloProgram program = compile_hlo(text, kernels, compile);
  ProgramInputs inputs(program.imported.graph, program.imported.inputs, options.inputs);
  return {std::move(program), std::move(inputs)};
}

// Planned sizes can be beyond any machine: said before memory is asked for, as Linux may grant it and
// end the process later. UserError with both numbers.
void require_memory(const OnRanksOptions& options, const PreparedProgram& prepared, int64_t devices_here) {
  if (options.device.backend != config::DeviceBackend::cpu) return;  // a GPU has its own, and refuses itself
  const double machine = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  const double device = static_cast<double>(prepared.program.compiled.executable->memory.peak_bytes());
  if (device * static_cast<double>(devices_here) > machine)
    throw_user_error("the program needs ", human_bytes(device), " on each of the ", devices_here,
                     " devices of this machine, which has ", human_bytes(machine),
                     " of memory; cut its tensors over more devices, or run it on more machines");
}

void make_output_folder(const OnRanksOptions& options) {
  if (!options.output_folder.empty()) posix_file_system().create_folders(options.output_folder);
}

int on_threads(const OnRanksOptions& options, const std::function<void(const PreparedProgram&)>& before,
               const RankBody& body) {
  const PreparedProgram prepared =
      prepare(read_hlo_text(options.file), options, options.compile, kernel_table(options.device));
  require_memory(options, prepared, prepared.program.devices());
  make_output_folder(options);
  before(prepared);
  int code = kExitDone;
  run_thread_ranks(static_cast<int>(prepared.program.devices()), [&](World& world) {
    RankDevice device(options.device, /*threads=*/0, world);
    const int mine = body(prepared, device.world(), device.backend());
    if (world.rank() == 0) code = mine;
  });
  return code;
}

// The ranks of mpirun, on one of them. What all agree has failed, rank 0 reports.
class Processes {
 public:
  Processes(const OnRanksOptions& options, World& world)
      : options_(options), world_(world), is_first_(world.rank() == 0) {}

  int run(const std::function<void(const PreparedProgram&)>& before, const RankBody& body) {
    // Standard input, and perhaps the file, is there for rank 0 alone.
    const Outcome text = run_on_first(&world_, [&] { return read_hlo_text(options_.file); });
    if (!agree([&] { prepare_here(text); })) return code_;
    world_.set_timeout(0);  // interpreting takes as long as it takes
    if (!agree([&] { is_first_ ? before(*prepared_) : void(); })) return code_;
    world_.set_timeout(MpiOptions().timeout_seconds);
    return run_body(body);
  }

 private:
  void prepare_here(const Outcome& text) {
    if (text.failed()) throw_failure(text.failure, text.error);
    HloCompileOptions compile = options_.compile;
    if (compile.devices > 0 && compile.devices != world_.size())
      throw_config_error("--devices ", compile.devices, ", but mpirun started ", world_.size(),
                         world_.size() == 1 ? " rank" : " ranks", "; leave out --devices, or start as many");
    compile.devices = world_.size();
    prepared_ = prepare(text.payload, options_, compile, kernel_table(options_.device));
    require_memory(options_, *prepared_, world_.local_size());
    prepared_->processes = world_.size();
    if (is_first_) make_output_folder(options_);
  }

  // False where `step` threw on some rank.
  bool agree(const std::function<void()>& step) {
    std::exception_ptr mine;
    const std::vector<Outcome> outcomes = run_on_all(&world_, [&]() -> std::string {
      try {
        step();
      } catch (...) {
        mine = std::current_exception();
        throw;
      }
      return "";
    });
    const std::optional<Outcome> failure = common_failure(outcomes);
    if (!failure) return true;
    code_ = failure->failure == Failure::config ? kExitUsage : kExitFailed;
    if (is_first_) report_failure(options_.json, mine ? mine : exception_of(*failure));
    return false;
  }

  static std::exception_ptr exception_of(const Outcome& failure) {
    try {
      throw_failure(failure.failure, failure.error);
    } catch (...) {
      return std::current_exception();
    }
  }

  int run_body(const RankBody& body) {
    try {
      RankDevice device(options_.device, /*threads=*/0, world_);
      return body(*prepared_, device.world(), device.backend());
    } catch (const AgreedError&) {
      if (is_first_) report_failure(options_.json, std::current_exception());
      return kExitFailed;
    } catch (const std::exception& error) {
      world_.abort(error.what());
      if (is_first_) throw;
      log_error("tessera: rank ", world_.rank(), ": ", error.what());
      return kExitFailed;
    }
  }

  const OnRanksOptions& options_;
  World& world_;
  const bool is_first_;
  std::optional<PreparedProgram> prepared_;
  int code_ = kExitDone;
};

int on_processes(const OnRanksOptions& options, const std::function<void(const PreparedProgram&)>& before,
                 const RankBody& body) {
  const std::unique_ptr<World> world = create_mpi_world();
  init_logging({.console_level = world->rank() == 0 ? LogLevel::info : LogLevel::error, .rank = world->rank()});
  const int code = Processes(options, *world).run(before, body);
  if (code != kExitDone) world->barrier();
  return code;
}

}  // namespace

int on_ranks(const OnRanksOptions& options, const std::function<void(const PreparedProgram&)>& before,
             const RankBody& body) {
  return launched_by_mpi() ? on_processes(options, before, body) : on_threads(options, before, body);
}

}  // namespace tessera
