// Who reads each value of a graph, its outputs included.
#pragma once

#include <set>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

class Uses {
 public:
  explicit Uses(const Graph& graph) : uses_(graph.uses()) {
    for (const GraphOutput& output : graph.outputs) outputs_.insert(output.value);
  }

  // By ops, of all results of the instruction.
  const std::vector<Graph::Use>& of(int instruction) const {
    return uses_[static_cast<size_t>(instruction)];
  }
  bool is_output(Value value) const { return outputs_.count(value) > 0; }
  // One op reads any result of its instruction, once, and it is no output.
  bool has_one_use(Value value) const {
    return of(value.instruction).size() == 1 && !is_output(value);
  }

 private:
  std::vector<std::vector<Graph::Use>> uses_;
  std::set<Value> outputs_;
};

}  // namespace tessera
