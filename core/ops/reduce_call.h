// How a call of reduce reads. Private to core/ops.
#pragma once

#include <algorithm>
#include <optional>

#include "core/ops/combiner.h"

namespace tessera::ops {

// Whether the call has initial values behind its operands.
inline bool has_init(const OpCall& call) {
  return call.attributes.has(Attr::combiner) || call.operands.size() > 1;
}
inline size_t reduced_count(const OpCall& call) {
  return call.attributes.has(Attr::combiner) ? call.operands.size() / 2 : 1;
}

// The combiner of a call with one operand, where it is a known one.
inline std::optional<ReduceKind> known_kind(const OpCall& call) {
  if (reduced_count(call) != 1) return std::nullopt;
  return Combiner(call.attributes).kind();
}

inline bool is_reduced(const Attributes& attributes, int dim) {
  const Ints& dims = attributes.ints(Attr::dimensions);
  return std::find(dims.begin(), dims.end(), dim) != dims.end();
}

std::vector<Value> grad_reduce(GradContext& c);

}  // namespace tessera::ops
