// The choices of kernels that a resumed run takes over, so that it computes the same bits and times nothing again.
#pragma once

#include <string>

#include "core/runtime/communicator.h"
#include "launch/config/job_config.h"

namespace tessera {

// Where a checkpoint's `determinism` keeps them; see RankDevice::kernel_choices.
inline constexpr const char* kKernelChoices = "kernel_choices";

// Those of the newest checkpoint that can be read, the same on all ranks; "" where there is none, or it shall not be
// resumed. Collective.
std::string saved_kernel_choices(const JobConfig& config, World& world);

}  // namespace tessera
