// One tile of C on one thread: oneDNN's products (matmul_dnnl.cpp) and our own blocked loop.
#pragma once

#include "kernels/cpu/matmul.h"

namespace tessera::cpu {

// Whether oneDNN multiplies bf16 with instructions of this processor, rather than by emulation.
bool dnnl_has_bf16();

void dnnl_tile(const GemmShape& tile, double alpha, const float* a, const float* b, double beta,
               float* c);
void dnnl_tile(const GemmShape& tile, double alpha, const bfloat16* a, const bfloat16* b,
               double beta, bfloat16* c);
void dnnl_tile(const GemmShape& tile, double alpha, const bfloat16* a, const bfloat16* b,
               double beta, float* c);

}  // namespace tessera::cpu
