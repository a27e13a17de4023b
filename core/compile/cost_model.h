// How long steps take on the simulated machine of the scheduler: a few measured numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// Wires that collectives share; collectives on different classes run side by side.
struct LinkClass {
  std::string name = "host";
  double latency_seconds = 5e-6;
  double bytes_per_second = 8e9;  // that one device sends
};

struct CostModel {
  // Floating-point operations per second of one device, by operand width.
  double flops_f64 = 3e10, flops_f32 = 6e10, flops_narrow = 6e10;
  double memory_bytes_per_second = 1e10;
  double kernel_seconds = 2e-6;  // per kernel, whatever its size
  double unknown_turns = 8;      // of a loop whose trip count is not known
  std::vector<LinkClass> links = {LinkClass{}};
  // Link class of each mesh axis; axes beyond its end use class 0. A group over several axes uses
  // the highest number, so order the classes from fast to slow.
  std::vector<int> link_of_axis = {};
};

// max(arithmetic, memory traffic of operands and results) + the launch. Of what is read or updated in
// slices, only the slices count.
double kernel_seconds(const CostModel& model, const Graph& graph, const Instruction& instruction);

// What a kernel has to do, whatever the machine: floating-point operations, and bytes read and written.
struct KernelWork {
  double flops = 0;
  int64_t bytes = 0;
};
KernelWork kernel_work(const Graph& graph, const Instruction& instruction);

// Bytes that each device sends for a collective of a local graph, by the ring algorithms below.
double wire_bytes(const Graph& graph, const Instruction& instruction);

struct CollectiveCost {
  int link = 0;
  double seconds = 0;
};
// Of one collective of a local graph; wire bytes are those of ring algorithms: 2(n-1)/n of the data
// for all_reduce, (n-1)/n of the larger side for the others.
CollectiveCost collective_cost(const CostModel& model, const Graph& graph,
                               const Instruction& instruction);

}  // namespace tessera
