// What the tests of single passes count and run with.
#pragma once

#include <vector>

#include "core/ir/graph.h"

namespace tessera::testing {

inline int count(const Graph& graph, const OpDef& op) {
  int found = 0;
  for (const Instruction& instruction : graph.instructions) found += instruction.is(op);
  return found;
}

// Small numbers of both signs for every input.
inline std::vector<HostTensor> values(const Graph& graph) {
  std::vector<HostTensor> inputs;
  for (const GraphInput& input : graph.inputs) {
    HostTensor tensor(graph.type(input.value));
    for (int64_t i = 0; i < tensor.elements(); ++i)
      tensor.set_real(i, 0.7 - 0.13 * static_cast<double>((i + 3 * inputs.size()) % 11));
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

}  // namespace tessera::testing
