// Where a checkpoint comes from: config, commit, libraries, and what bitwise equality depends on.
#pragma once

#include <map>
#include <string>

#include "launch/checkpoint/manifest.h"
#include "launch/engine/compiled_job.h"

namespace tessera {

// Everything but the run's position, which the caller fills in.
CheckpointInfo provenance(const CompiledJob& job);

// Library -> version, as `tessera --version` prints them.
std::map<std::string, std::string> library_versions();

// "tessera 0.1.0 (commit abc, gcc 12.2.0)\n" and a line a library.
std::string version_text();

}  // namespace tessera
