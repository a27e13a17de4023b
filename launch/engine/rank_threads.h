// How many threads a rank computes with.
#pragma once

#include "core/runtime/communicator.h"
#include "launch/config/job_config.h"

namespace tessera {

// `wanted` where it is above 0, or the cores this process may use divided by the ranks of the host, at
// least 1.
int rank_threads(int64_t wanted, const World& world);
// The same by train.threads.
int rank_threads(const JobConfig& job, const World& world);

}  // namespace tessera
