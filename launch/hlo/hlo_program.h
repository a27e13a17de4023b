// A module of HLO text, compiled for a number of devices: what every rank runs.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "launch/engine/lower.h"
#include "partitioner/hlo/import.h"

namespace tessera {

struct HloCompileOptions {
  int64_t devices = 0;  // 0: as many as the module speaks of
  // Outputs that are inputs of the next step (Imported::carry) lie as these and overwrite them.
  bool carry = false;
  bool strict = false;        // see LowerOptions
  bool check_passes = false;  // verify after every pass, however large the module
};

struct HloProgram {
  hlo::Imported imported;  // as it was read: what a check interprets
  CompiledGraph compiled;
  int64_t instructions = 0;  // of the module
  double parse_seconds = 0, compile_seconds = 0;  // import, partition, compile
  std::vector<std::pair<int, int>> carried;       // output -> input; empty without `carry`

  int64_t devices() const { return imported.mesh->devices(); }
};

// Throws UserError for text that is no HLO, hlo::UnsupportedHlo, ConfigError where the module's
// shardings are not for so many devices or nothing can be carried.
HloProgram compile_hlo(const std::string& text, const KernelTable& kernels, const HloCompileOptions& options);

// The text of a file, or of standard input for "-". Throws UserError.
std::string read_hlo_text(const std::string& file);

}  // namespace tessera
