// Which GPU a rank uses, and which CPUs are near it.
#pragma once

#include <string>
#include <vector>

#include "core/runtime/communicator.h"

namespace tessera::cuda {

// The rank's GPU among those it may use: its number on the host, modulo their count. A launcher that shows each
// rank one GPU (CUDA_VISIBLE_DEVICES) thereby gives it that one. A rank that is a process is also kept to the CPUs
// of the GPU's NUMA node, unless its affinity has been narrowed already (mpirun --bind-to, a cpuset) or the node
// is unknown. UserError where no GPU is visible.
int place_rank(World& world);

// A line per rank: host, rank, GPU, PCI bus, NUMA node, CPUs, name. Collective; the same text on all ranks.
std::string placement_table(World& world, int device);

// "0-3,8" -> {0, 1, 2, 3, 8}, and back; what is no such list is empty.
std::vector<int> parse_cpu_list(const std::string& text);
std::string print_cpu_list(const std::vector<int>& cpus);

}  // namespace tessera::cuda
