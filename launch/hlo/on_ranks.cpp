#include "launch/hlo/on_ranks.h"

#include <exception>
#include <optional>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/runtime/thread_world.h"
#include "kernels/comm/launcher.h"
#include "kernels/comm/mpi_world.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/threads.h"
#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/file_system.h"
#include "launch/command_line.h"
#include "launch/engine/rank_threads.h"

namespace tessera {
namespace {

PreparedProgram prepare(const std::string& text, const OnRanksOptions& options, const HloCompileOptions& compile,
                        const KernelTable& kernels) {
  HloProgram program = compile_hlo(text, kernels, compile);
  ProgramInputs inputs(program.imported.graph, program.imported.inputs, options.inputs);
  return {std::move(program), std::move(inputs)};
}

void make_output_folder(const OnRanksOptions& options) {
  if (!options.output_folder.empty()) posix_file_system().create_folders(options.output_folder);
}

int on_threads(const OnRanksOptions& options, const std::function<void(const PreparedProgram&)>& before,
               const RankBody& body) {
  const KernelTable kernels = cpu_kernel_table();
  const PreparedProgram prepared = prepare(read_hlo_text(options.file), options, options.compile, kernels);
  make_output_folder(options);
  before(prepared);
  int code = kExitDone;
  run_thread_ranks(static_cast<int>(prepared.program.devices()), [&](World& world) {
    cpu::set_threads(rank_threads(/*wanted=*/0, world));
    const std::unique_ptr<Backend> backend = create_cpu_backend(kernels);
    const int mine = body(prepared, world, *backend);
    if (world.rank() == 0) code = mine;
  });
  return code;
}

// What `step` throws on any rank ends all: rank 0 throws it, its own if it has one, and the others
// return the exit code.
std::optional<int> agree(World& world, const std::function<void()>& step) {
  std::exception_ptr mine;
  const std::vector<Outcome> outcomes = run_on_all(&world, [&]() -> std::string {
    try {
      step();
    } catch (...) {
      mine = std::current_exception();
      throw;
    }
    return "";
  });
  const std::optional<Outcome> failure = common_failure(outcomes);
  if (!failure) return std::nullopt;
  if (world.rank() == 0) {
    if (mine) std::rethrow_exception(mine);
    throw_failure(failure->failure, failure->error);
  }
  return failure->failure == Failure::config ? kExitUsage : kExitFailed;
}

int on_processes(const OnRanksOptions& options, const std::function<void(const PreparedProgram&)>& before,
                 const RankBody& body) {
  const std::unique_ptr<World> world = create_mpi_world();
  const bool is_first = world->rank() == 0;
  init_logging({.console_level = is_first ? LogLevel::info : LogLevel::error, .rank = world->rank()});
  const KernelTable kernels = cpu_kernel_table();
  std::optional<PreparedProgram> prepared;
  // Standard input, and perhaps the file, is there for rank 0 alone.
  const Outcome text = run_on_first(world.get(), [&] { return read_hlo_text(options.file); });
  const auto prepare_here = [&] {
    if (text.failed()) throw_failure(text.failure, text.error);
    HloCompileOptions compile = options.compile;
    if (compile.devices > 0 && compile.devices != world->size())
      throw_config_error("--devices ", compile.devices, ", but mpirun started ", world->size(),
                         world->size() == 1 ? " rank" : " ranks", "; leave out --devices, or start as many");
    compile.devices = world->size();
    prepared = prepare(text.payload, options, compile, kernels);
    prepared->processes = world->size();
    if (is_first) make_output_folder(options);
  };
  if (const std::optional<int> code = agree(*world, prepare_here)) return *code;
  // Interpreting takes as long as it takes.
  world->set_timeout(0);
  const std::optional<int> code = agree(*world, [&] {
    if (is_first) before(*prepared);
  });
  if (code) return *code;
  world->set_timeout(MpiOptions().timeout_seconds);
  try {
    cpu::set_threads(rank_threads(/*wanted=*/0, *world));
    const std::unique_ptr<Backend> backend = create_cpu_backend(kernels);
    return body(*prepared, *world, *backend);
  } catch (const AgreedError&) {
    world->barrier();
    if (is_first) throw;
    return kExitFailed;
  } catch (const std::exception& error) {
    world->abort(error.what());
    if (is_first) throw;
    log_error("tessera: rank ", world->rank(), ": ", error.what());
    return kExitFailed;
  }
}

}  // namespace

int on_ranks(const OnRanksOptions& options, const std::function<void(const PreparedProgram&)>& before,
             const RankBody& body) {
  return launched_by_mpi() ? on_processes(options, before, body) : on_threads(options, before, body);
}

}  // namespace tessera
