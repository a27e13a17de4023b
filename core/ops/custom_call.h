// Calls of functions that the embedding program provides, with a factor rule in text, so that the
// partitioner treats them like any other op.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/ir/builder.h"

namespace tessera::ops {

// Computes the results (zeroed, typed) of one call. With a rule the shapes may be those of shards.
using CustomFunction = std::function<void(
    const OpCall&, std::span<const HostTensor* const> operands, std::span<HostTensor> results)>;

// Makes `target` known to this process; replaces an earlier one. Not while graphs are running.
void register_custom_call(const std::string& target, CustomFunction function);
std::vector<std::string> known_custom_calls();

// custom_call{call_target, result_types, rule?, backend_config?}(xs...). Without a rule every dim
// is whole on each device. "identity" is always known: results are the operands.
extern const OpDef kCustomCall;
std::vector<Value> custom_call(Builder& b, const std::string& target, std::vector<Value> operands,
                               const std::vector<TensorType>& results,
                               const std::string& rule = "");

// Reads "([i, k], [k, j]) -> ([i, (j l)]) {k=reduction, l=4, j=8 pass_through}": what a FactorRule
// prints, where sizes may be left out that follow from a dim of one factor. A factor without an
// entry is pass_through; reduction(max) names the combiner. Dims of size 1 are written 1. Throws
// UserError that names the text and the place.
FactorRule parse_factor_rule(const std::string& text, std::span<const TensorType> operands,
                             std::span<const TensorType> results);

}  // namespace tessera::ops
