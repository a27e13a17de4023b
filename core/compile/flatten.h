// Joins the scheduled step graphs of a program and of all its regions into one list of steps over one
// list of buffers, which the memory plan places as a whole.
//
// A region's inputs become views of what they start as (the result they lie over, else the
// operand), its outputs lie in the results. Regions are numbered in the order of the steps.
#pragma once

#include <vector>

#include "core/compile/scheduler.h"
#include "core/compile/step_graph.h"

namespace tessera {

struct FlatSteps {
  StepGraph steps;
  std::vector<Action> actions;  // action i is step i of the executable
  ScheduleReport report;
};

FlatSteps flatten(StepGraph steps, const Schedule& schedule);

}  // namespace tessera
