// The global reference interpreter: a value is its logical tensor. Uses only OpDef::eval.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// Outputs in the order of graph.outputs. `inputs` must match graph.inputs in number and type.
// Throws UserError on a mismatch. `observe`, when set, sees every value as it is made.
std::vector<HostTensor> interpret(
    const Graph& graph, std::span<const HostTensor> inputs,
    const std::function<void(Value, const HostTensor&)>& observe = nullptr);

}  // namespace tessera
