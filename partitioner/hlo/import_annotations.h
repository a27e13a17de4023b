// What import.cpp asks of the parts that know about shardings and boundaries. Implemented in
// import_annotations.cpp, manual_regions.cpp and import_boundary.cpp.
#pragma once

#include <optional>
#include <vector>

#include "partitioner/hlo/import.h"
#include "partitioner/hlo/import_context.h"

namespace tessera::hlo {

// Called once, before anything is imported and before the mesh is chosen: a module in which what lies
// between SPMDFullToShardShape and SPMDShardToFullShape has become a computation of its own that is
// called (a custom call which import_custom_calls.cpp turns into a manual_computation). Callees still
// stand before their callers. nullopt where the module has no such regions. Throws UserError.
std::optional<HloModule> outline_manual_regions(const HloModule& module);

// Called after every set(), parameters, constants, tuples and get-tuple-element included, of the
// entry computation and of all others: puts the shardings that the instruction states (sharding=,
// xla.sdy.sharding) onto its leaves. May replace leaves by others of the same type, as where a value
// that has a sharding already gets a second one. context.builder() is that of the computation.
// The root of the entry computation is not annotated: that is annotate_boundary's.
void annotate_values(ImportContext& context, std::vector<Value>& leaves);

// Called at the end, when graph, inputs and outputs are complete: the shardings of the results
// (GraphOutput::sharding), the carry, aliases of outputs (GraphOutput::alias_input) and the kinds of
// the inputs (what is carried is a parameter).
void annotate_boundary(const HloModule& module, Imported& imported);

}  // namespace tessera::hlo
