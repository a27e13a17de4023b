// Completes a config: fills in what follows from other values, and makes paths absolute.
#pragma once

#include <cstdint>
#include <string>

#include "launch/config/origins.h"

namespace tessera::proto {
class JobConfig;
}

namespace tessera::config {

// The absolute form of `path` as written in the file `from` (relative to it), or on the command
// line
// (`from` empty; relative to the working folder).
std::string absolute_path(const std::string& path, const std::string& from);

// Fills in the fields of model, schedule, train and output_dir that `given` leaves out and that
// follow from others, noting the rule as their origin. What is not positive is left for validation.
void resolve_derived(const proto::JobConfig& given, JobConfig& job);

// Makes data.paths and data.eval_paths absolute, each by its origin.
void resolve_paths(JobConfig& job);

}  // namespace tessera::config
