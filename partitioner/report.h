// What the partitioner tells of its result. Private to the partitioner; see PartitionReport.
#pragma once

#include "partitioner/partition.h"

namespace tessera {

// Shardings with reasons: inputs, and the forward activations that have names or logical axes.
void report_shardings(const Graph& propagated, const Origins& origins, PartitionReport& report);

// Collectives and memory of the final, local graph.
void report_program(const Graph& local, const MachineModel& machine, PartitionReport& report);

}  // namespace tessera
