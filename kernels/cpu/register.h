// Puts the CPU kernels in a kernel table: the candidates of each op in order of preference, each of
// which accepts a call or says why not. What none accepts falls to the op's reference.
#pragma once

#include "core/runtime/kernel_table.h"

namespace tessera {

void register_cpu_kernels(KernelTable& table);

// A table of them alone.
KernelTable cpu_kernel_table();

namespace cpu {

// One family of ops each, in a file of its own (op_*.cpp).
void register_elementwise(KernelTable& table);
void register_fusion(KernelTable& table);
void register_dot_general(KernelTable& table);
void register_movement(KernelTable& table);
void register_reductions(KernelTable& table);
void register_norms(KernelTable& table);
void register_attention(KernelTable& table);
void register_vocabulary(KernelTable& table);
void register_optimizer(KernelTable& table);
void register_padding(KernelTable& table);
void register_convolution(KernelTable& table);
void register_windows(KernelTable& table);
void register_dynamic_slices(KernelTable& table);
void register_gather(KernelTable& table);
void register_scatter(KernelTable& table);
void register_sorts(KernelTable& table);
void register_random(KernelTable& table);
void register_ragged(KernelTable& table);
void register_routing(KernelTable& table);

}  // namespace cpu
}  // namespace tessera
