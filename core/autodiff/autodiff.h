// Reverse-mode differentiation of a graph under construction, with rematerialisation.
//
// The rule of each op stands in its OpDef (`grad`); this walks the graph backward, sums cotangents in
// a fixed order, and decides which forward values the backward pass keeps. Under a policy other than
// `none`, a value of a named block (scope "block.3/...") that is not visible outside its block is
// computed again, once, when the backward pass first asks for it; such instructions carry the
// recompute tag, which CSE respects. (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
// Cost": one block is one segment.)
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/ir/builder.h"

namespace tessera {

enum class RematPolicy : uint8_t {
  none,  // keep every residual
  full,  // keep block inputs only
  dots,  // keep the results of contractions and attention; recompute what is cheap
};

struct AutodiffOptions {
  RematPolicy remat = RematPolicy::none;
};

// d(loss)/d(wrt[i]) for a scalar `loss`; an invalid Value where loss does not depend on wrt[i].
// Appends to the builder's graph. A gradient has the type of its primal. Activations' cotangents
// inherit the logical axes of their primals, so that they are sharded alike; a gradient and its
// wrt[i] form a `like` sharding group.
// Throws UserError that names an op without a gradient on the path.
std::vector<Value> gradients(Builder& builder, Value loss, std::span<const Value> wrt,
                             const AutodiffOptions& options = {});

// The cotangents of `wrt`, given those of `outputs` (of their types). Every residual of this graph is
// kept: the policy holds for the regions in it. Throws as `gradients` does.
std::vector<Value> vector_jacobian(Builder& builder, std::span<const Value> outputs,
                                   std::span<const Value> cotangents, std::span<const Value> wrt,
                                   const AutodiffOptions& options = {});

// The block of a scope: "block.3" for "block.3/attention"; "" outside blocks.
std::string block_of_scope(const std::string& scope);

}  // namespace tessera
