// Global evaluation of a manual computation: its callee runs once for each coordinate of the manual
// axes, all coordinates in step, so that collectives inside find what the others hold.
//
// The other axes are automatic: along them every value is still logical, and a collective over them,
// which the partitioner put there, is the identity. (Defined in core/runtime, where exchanges between
// devices are known.) Loops and branches inside may turn differently on different coordinates, as long
// as no collective joins two that part.
#pragma once

#include <span>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// `attributes` are those of a manual_computation. Takes and returns logical tensors. Throws UserError
// where coordinates that should hold the same result differ, and InternalError where a collective joins
// coordinates that took different ways.
std::vector<HostTensor> interpret_manual(const Attributes& attributes,
                                         std::span<const HostTensor> inputs);

}  // namespace tessera
