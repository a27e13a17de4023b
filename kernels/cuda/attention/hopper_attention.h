// Attention by the warpgroup products of compute capability 9.0 (H100, H200), which mma.sync cannot bring to their
// full rate: the same results from the same arguments as attention.h's tensor_attention_*. Later devices have not got
// these instructions.
#pragma once

#include "kernels/cuda/attention/attention.h"

namespace tessera::cuda {

// Whether the kernels below are for such a device and shape.
bool hopper_attention_takes(const AttentionShape& shape, int major, int minor);

// Both: prepare_tensor_maps() comes first. As tensor_attention_forward and tensor_attention_backward.
void hopper_attention_forward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v, bf16* out,
                              float* lse, cudaStream_t stream);
void hopper_attention_backward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                               const RowStatistics* statistics, const bf16* dout, bf16* dq, bf16* dk, bf16* dv,
                               cudaStream_t stream);

}  // namespace tessera::cuda
