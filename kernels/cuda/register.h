// Puts the CUDA kernels in a kernel table: the candidates of each op in order of preference. What none accepts
// falls to the op's reference on the host, which waits for the device (register_reference).
#pragma once

#include "core/runtime/kernel_table.h"

namespace tessera::cuda {

void register_cuda_kernels(KernelTable& table);

// One family of ops each, in a file of its own (op_*.cpp).
void register_reference(KernelTable& table);
void register_fusion(KernelTable& table);
void register_elementwise(KernelTable& table);  // elementwise ops that stand alone
void register_dot_general(KernelTable& table);
void register_product_epilogues(KernelTable& table);  // by register_dot_general
void register_fp8(KernelTable& table);            // by register_dot_general
void register_movement(KernelTable& table);
void register_padding(KernelTable& table);      // by register_movement
void register_reductions(KernelTable& table);
void register_norms(KernelTable& table);
void register_attention(KernelTable& table);
void register_vocabulary(KernelTable& table);
void register_optimizer(KernelTable& table);
void register_indexing(KernelTable& table);     // gather, scatter, dynamic slices
void register_scatter(KernelTable& table);      // by register_indexing
void register_random(KernelTable& table);
void register_ragged(KernelTable& table);      // products of rows in groups
void register_routing(KernelTable& table);     // the router of experts, tokens there and back

}  // namespace tessera::cuda
