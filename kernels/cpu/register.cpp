#include "kernels/cpu/register.h"

namespace tessera {

void register_cpu_kernels(KernelTable& table) {
  cpu::register_elementwise(table);
  cpu::register_fusion(table);
  cpu::register_dot_general(table);
  cpu::register_movement(table);
  cpu::register_reductions(table);
  cpu::register_norms(table);
  cpu::register_attention(table);
  cpu::register_vocabulary(table);
  cpu::register_optimizer(table);
  cpu::register_padding(table);
  cpu::register_convolution(table);
  cpu::register_windows(table);
  cpu::register_dynamic_slices(table);
  cpu::register_gather(table);
  cpu::register_scatter(table);
  cpu::register_sorts(table);
  cpu::register_random(table);
  cpu::register_ragged(table);
  cpu::register_routing(table);
}

KernelTable cpu_kernel_table() {
  KernelTable table;
  register_cpu_kernels(table);
  return table;
}

}  // namespace tessera
