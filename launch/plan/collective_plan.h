// The collectives of an Executable by op and axes, with the times that its schedule predicts.
#pragma once

#include <vector>

#include "launch/plan/plan_report.h"

namespace tessera {

// `middle_block`: the block whose collectives stand for one layer ("block.48").
GraphPlan plan_of_graph(const Executable& executable, const MachineModel& machine,
                        const std::string& middle_block);

}  // namespace tessera
