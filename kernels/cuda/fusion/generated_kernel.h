// From a kernel's source to its launch: what fusions and elementwise ops that stand alone share.
#pragma once

#include "kernels/cuda/fusion/fusion_source.h"
#include "kernels/cuda/op_support.h"

namespace tessera::cuda {

// Of all operands and results, in bytes: a power of two, at most 16.
int alignment_of(const KernelArgs& args);

// The source will be compiled with all others, by the backend's finish_preparing.
void prepare_generated(const KernelArgs& args, const FusionSource& source);
void run_generated(const KernelArgs& args, const FusionSource& source);

}  // namespace tessera::cuda
