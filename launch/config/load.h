// From a job file and the command line to a checked JobConfig, and back to text.
//
// Precedence, last wins: defaults < job file < sharding file < --mesh < --set.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launch/config/job_config.h"

namespace tessera {

// What a job is loaded for, which decides what it must name.
enum class LoadPurpose : uint8_t {
  train,  // everything is checked
  plan,   // data.paths may be empty
  use,    // of the trained model (generate, inspect): neither data nor the batch is checked
};

// What the command line adds to a job file.
struct LoadOptions {
  std::string sharding_file;      // --sharding FILE, relative to the working folder
  std::string mesh;               // --mesh data=2,model=4; "1" puts the job on one device
  std::vector<std::string> sets;  // --set a.b[1].c=value, a+=value, in the order given
  // Ranks (or --devices, --virtual-devices). 0: unknown, the mesh must name every size.
  int64_t device_count = 0;
  LoadPurpose purpose = LoadPurpose::train;
};

// Throws ConfigError with every problem found, one a line, each with file:line where there is one.
JobConfig load_job(const std::string& job_path, const LoadOptions& options = {});

// The same for a text that stands in a checkpoint or an output folder; `name` is used in messages.
JobConfig load_job_text(const std::string& text, const std::string& name,
                        const LoadOptions& options = {});

// The effective config as textproto, each value followed by "# from ..." (train --check).
std::string print_effective(const JobConfig& job);

// Canonical textproto of the effective config: load_job_text gives back an equal JobConfig.
std::string effective_text(const JobConfig& job);

// What a resume may change.
enum class ChangeClass : uint8_t {
  free,     // steps, mesh, sharding, evaluation, logging, checkpointing, threads
  warning,  // schedule, batch, optimizer, corpus paths, dtypes
  refused,  // model, tokenizer, sequence packing, data seed
};

std::string_view name_of(ChangeClass value);

struct ConfigChange {
  std::string path;       // "train.global_batch"
  std::string old_value;  // textproto, "" where absent
  std::string new_value;
  ChangeClass kind = ChangeClass::free;
};

// Every field in which the effective text of a checkpoint differs from `job`, in the order of the
// config file. Throws ConfigError if `old_text` cannot be read.
std::vector<ConfigChange> diff_configs(const std::string& old_text, const JobConfig& job);

// One line a change ("train.steps: 100 -> 200"), refused ones first; "" when nothing changed.
std::string describe_changes(const std::vector<ConfigChange>& changes);

}  // namespace tessera
