// What the memory of an Executable is for, and what each layer keeps for its backward pass.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/plan/plan_report.h"

namespace tessera {

// (kind, bytes), whose sum is executable.memory.peak_bytes(). Accumulators count as gradients. Of the
// scratch and symmetric memory, `gradients` is what gradients take at the moment when most is live,
// and `activations` is the rest, gaps between buffers included.
std::vector<std::pair<std::string, int64_t>> memory_by_kind(const Executable& executable);

// In the order of the blocks. Values that recomputation makes anew are not kept and not counted.
std::vector<LayerActivations> saved_activations(const Executable& executable);

}  // namespace tessera
