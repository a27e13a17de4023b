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
  // Memory of a device, persistent tensors included. Where more than the plan needs, weights that
  // were gathered for the forward pass are kept for the backward pass, as many as fit, if that makes
  // the simulated step faster. 0: none is kept.
  int64_t memory_bytes = 0;
};

// `kernels` must outlive the result, which points into it. Throws InternalError where `graph` is
// not local or still holds a reshard.
Executable compile(Graph graph, const KernelTable& kernels, const CompileOptions& options = {});

}  // namespace tessera
