// What the handlers of several families use. Private to the importer.
#pragma once

#include <optional>
#include <vector>

#include "core/types/reduce_kind.h"
#include "partitioner/hlo/import_context.h"

namespace tessera::hlo {

// Throws UserError (line, instruction) unless the instruction has this many operands.
void expect_operands(const ImportContext& context, int count);

// All results of the instruction that made `first`, its result 0.
std::vector<Value> results_of(Builder& builder, Value first);

// The element of a scalar constant; null where the value is not one.
std::optional<HostTensor> scalar_constant(const Graph& graph, Value value);
// Whether the value is a scalar constant equal to the neutral element of `kind` (-0 is one of
// sums).
bool is_identity_constant(const Graph& graph, Value value, ReduceKind kind);

// The region that attribute `name` names, with what it calls inlined.
GraphRef flat_region(ImportContext& context, std::string_view name);

// The window's entries, each as many as `rank`; unset ones are 1s, or 0s for padding. Throws where
// one has another length or is not positive.
Window full_window(const ImportContext& context, const Window* window, size_t rank);

// Handlers that have a file of their own, for the list of their family.
void import_sort(ImportContext& context);
void import_top_k(ImportContext& context);
void import_map(ImportContext& context);
void import_rng_bit_generator(ImportContext& context);
// A custom call whose target the embedding program has registered (core/ops/custom_call.h).
void import_registered_call(ImportContext& context);

}  // namespace tessera::hlo
