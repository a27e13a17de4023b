// From a localized graph to what runs.
//
//     graph --build_step_graph--> steps and edges --schedule_steps--> order --plan_memory-->
//     addresses
//
// Everything is decided from the graph alone, never from the rank: all ranks get the same
// Executable.
#pragma once

#include "core/compile/cost_model.h"
#include "core/compile/executable.h"
#include "core/compile/scheduler.h"

namespace tessera {

struct CompileOptions {
  CostModel cost;
  ScheduleOptions schedule;
};

// `kernels` must outlive the result, which points into it. Throws InternalError where `graph` is
// not local or still holds a reshard.
Executable compile(Graph graph, const KernelTable& kernels, const CompileOptions& options = {});

}  // namespace tessera
