// Pass 1: from a model's logical axis names to mesh axes.
#pragma once

#include <string>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/origins.h"
#include "partitioner/sharding_rules.h"

namespace tessera {

struct AnnotateNotes {
  std::vector<std::string> warnings;  // rules without effect, dims that if_divides left alone
};

// Gives every value a sharding: inputs and named activations by the rules (parameter_rules for
// parameters and accumulators, optimizer_rules for optimizer state, activation_rules for data and
// everything named in the graph), overrides by tensor name first. What a rule places is closed; the
// other dims are closed for inputs and open elsewhere. Outputs that overwrite an input must lie as
// it. Accumulators stay partial over the axes of the batch that they do not use themselves, so that
// gradients are reduced once per step, not per microbatch.
//
// Throws ConfigError: a sharding in the program that has another rank than its tensor, uses an axis
// twice or is for another mesh (naming op and location); an axis the mesh lacks, an override that matches no tensor (a warning where
// the graph has no optimizer state, as it does not hold all tensors of the job then) or has another
// number of dims. A dim that its axes do not divide is padded (pad_dims.h), unless the rule says
// if_divides.
Graph annotate(const Graph& graph, const MeshPtr& mesh, const ShardingConfig& config,
               Origins* origins = nullptr, AnnotateNotes* notes = nullptr);

}  // namespace tessera
