// Why tensors lie as they do, for a question in words: the text of `tessera plan --explain`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/origins.h"

namespace tessera {

// A name for every value that a person may ask for: its own; for an activation of the forward pass
// that bears only logical axes its scope, op and axes ("block.0/mlp/add(batch,length,mlp)"), numbered
// where there are several; "" for all else. By instruction and result, for the graph without regions.
std::vector<std::vector<std::string>> tensor_names(const Graph& graph);

// `question`: the whole name of a tensor, a regular expression for whole names, or "%12", "%12:1" and
// "%12.body/%3" for any value of the propagated graph. For each tensor that it means
//
//     w1 f32[16,32] lies [{}, {model}]
//     dim 1 {model} because parameter rule mlp -> model
//     conflict at add %9: ...
//
// Throws ConfigError with the nearest names where it means none.
std::string explain(const Graph& propagated, const Origins& origins,
                    const std::vector<Conflict>& conflicts, const std::string& question);

}  // namespace tessera
