#include "kernels/cuda/backend/check.h"

#include "core/base/error.h"
#include "core/base/strings.h"

namespace tessera::cuda {

void throw_cuda_error(cudaError_t error, const char* what) {
  std::string advice;
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
      advice = "; a kernel before this point failed, and the device cannot be used any more by this process "
               "(CUDA_LAUNCH_BLOCKING=1, or device.capture = false, shows which)";
      break;
    case cudaErrorMemoryAllocation: {
      (void)cudaGetLastError();  // the next call must not see it
      size_t free = 0, total = 0;
      if (cudaMemGetInfo(&free, &total) == cudaSuccess)
        advice = cat("; ", human_bytes(static_cast<double>(free)), " of the GPU's ",
                     human_bytes(static_cast<double>(total)), " are free (nvidia-smi shows who has the rest)");
      break;
    }
    case cudaErrorInsufficientDriver:
      advice = "; the driver is older than CUDA 13 needs (580 or later)";
      break;
    case cudaErrorNoKernelImageForDevice:
      advice = "; the plugin holds machine code for compute capability 8.0 and 9.0 and PTX for later ones";
      break;
    default:
      break;
  }
  throw_user_error("CUDA: ", what, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")", advice);
}

}  // namespace tessera::cuda
