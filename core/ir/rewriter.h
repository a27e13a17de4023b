// Helps a pass copy a graph into a new one while changing it: Graph -> Graph, never in place.
//
//     GraphRewriter rewriter(graph);
//     for (int i = 0; i < size; ++i) { ... rewriter.copy(i) or rewriter.replace(value, new_value) }
//     return rewriter.finish();
#pragma once

#include <map>
#include <vector>

#include "core/ir/builder.h"
#include "core/ir/graph.h"

namespace tessera {

class GraphRewriter {
 public:
  // Starts an empty graph with the name, mesh and is_local of `source`.
  explicit GraphRewriter(const Graph& source);

  Builder& builder() { return builder_; }
  Graph& result() { return result_; }

  // Copies instruction `index` with mapped operands and everything else unchanged.
  Value copy(int index);
  // Appends `instruction`, whose operands are already values of the new graph.
  Value append(Instruction instruction);
  // From here on, uses of `old_value` of the source become `new_value`.
  void replace(Value old_value, Value new_value);
  // The new value of an old one; TESSERA_CHECKs that it was made already.
  Value mapped(Value old_value) const;
  bool has(Value old_value) const;

  // Maps inputs and outputs and returns the graph.
  Graph finish();

 private:
  const Graph& source_;
  Graph result_;
  Builder builder_;
  std::vector<std::vector<Value>> map_;
  std::map<int64_t, Value> parameters_;  // by number
};

}  // namespace tessera
