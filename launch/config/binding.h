// The one list that ties config structs to their protobuf messages, used in both directions.
#pragma once

#include "launch/config/job_config.h"

namespace tessera::proto {
class JobConfig;
class ShardingConfig;
}  // namespace tessera::proto

namespace tessera::config {

// Overwrites the fields of `job` that are set in `message`; all others keep their value.
void from_message(const proto::JobConfig& message, JobConfig& job);

// Sets every field of `message`, defaults included, except sharding_file.
void to_message(const JobConfig& job, proto::JobConfig& message);

}  // namespace tessera::config
