// Checks that the values of a config are possible, each and together.
#pragma once

#include <set>
#include <string>

#include "launch/config/job_config.h"
#include "launch/config/load.h"
#include "launch/config/problems.h"

namespace tessera::proto {
class JobConfig;
}

namespace tessera::config {

// The fields without a default that `given`, the merged text, leaves out.
std::set<std::string> missing_fields(const proto::JobConfig& given, LoadPurpose purpose);

// Ranges of single values, and values that must agree. `missing` fields are not blamed.
void check_values(const JobConfig& job, const std::set<std::string>& missing, LoadPurpose purpose,
                  Problems& problems);

// After the mesh's sizes are resolved: mesh names, and the axes and expressions of rules and
// overrides; may add to job.warnings. Empty names are blamed only if the text was `read_well`.
void check_sharding(JobConfig& job, bool read_well, Problems& problems);

}  // namespace tessera::config
