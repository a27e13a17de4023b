// An epilogue by kernels of ours behind its product: where cuBLASLt has no algorithm with it, or none that is as fast.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/matmul/matmul_problem.h"

namespace tessera::cuda {

// `memory.result` holds the product, without the epilogue and rounded to its type. Of one batch, with dense matrices;
// f32 and bf16, GELU in bf16 alone. `workspace` has epilogue_workspace(problem) bytes.
void run_epilogue(const MatmulProblem& problem, const MatmulMemory& memory, void* workspace, cudaStream_t stream);

int64_t epilogue_workspace(const MatmulProblem& problem);

}  // namespace tessera::cuda
