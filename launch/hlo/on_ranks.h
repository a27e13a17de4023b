// A program on all its ranks: threads of this process, or those that mpirun started.
#pragma once

#include <functional>
#include <string>

#include "core/runtime/backend.h"
#include "core/runtime/communicator.h"
#include "launch/config/job_config.h"
#include "launch/hlo/hlo_program.h"
#include "launch/hlo/program_inputs.h"

namespace tessera {

struct OnRanksOptions {
  std::string file;  // of HLO text; "-": standard input
  HloCompileOptions compile;
  config::DeviceConfig device;
  InputOptions inputs;
  std::string output_folder;  // made where it does not exist; "": none
  std::string json;           // report of a failure, see report_failure.h
};

// What is known before a rank runs.
struct PreparedProgram {
  HloProgram program;
  ProgramInputs inputs;
  int processes = 1;
};

// Reads (rank 0 alone, for all), compiles, opens the inputs; then calls `before` on rank 0, and
// body(prepared, world, backend) on every rank. Returns the exit code, on all ranks the same: that of
// the body, which the ranks must agree on, or that of a failure. Threads throw their failure; of
// processes rank 0 reports it before any of them ends, because mpirun then ends the others. ConfigError
// where --devices and the ranks of mpirun are not the same number.
using RankBody = std::function<int(const PreparedProgram&, World&, Backend&)>;
int on_ranks(const OnRanksOptions& options, const std::function<void(const PreparedProgram&)>& before,
             const RankBody& body);

}  // namespace tessera
