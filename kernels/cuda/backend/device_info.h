// The GPUs that this process may use.
#pragma once

#include <vector>

#include "kernels/cuda/plugin/plugin.h"

namespace tessera::cuda {

// Throws UserError that says why CUDA cannot be used (no driver, one too old, no permission); empty where
// there is a driver and no visible device.
std::vector<DeviceInfo> list_devices();

}  // namespace tessera::cuda
