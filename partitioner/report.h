// What the partitioner tells of its result. Private to the partitioner; see PartitionReport.
#pragma once

#include "partitioner/partition.h"

namespace tessera {

// Shardings with reasons: inputs and named activations of the propagated graph.
void report_shardings(const Graph& propagated, const Origins& origins, PartitionReport& report);

// Collectives and memory of the final, local graph.
void report_program(const Graph& local, const MachineModel& machine, PartitionReport& report);

}  // namespace tessera
