// Measures the algorithms that cuBLASLt proposes for a product, on the device.
#pragma once

#include <vector>

#include "kernels/cuda/matmul/matmul_plan.h"

namespace tessera::cuda {

// The fastest of `candidates`, the first where none is clearly faster. Works on memory of its own, filled with
// random numbers (zeros would run faster than data does), which it takes and gives back: where the device has too
// little left, the first is taken, with a warning. Waits for the device.
MatmulAlgorithm fastest(const MatmulPlan& plan, const std::vector<MatmulAlgorithm>& candidates, void* workspace,
                        cudaStream_t stream);

}  // namespace tessera::cuda
