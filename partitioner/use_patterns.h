// What the neighbourhood of an op says about what moving its tensors really costs. Private to
// choose_op_shardings.
#pragma once

#include <map>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// Autodiff marks the scope of backward instructions: "block.0/mlp/backward".
bool is_backward(const Instruction& instruction);

struct UsePatterns {
  explicit UsePatterns(const Graph& graph);

  std::vector<std::vector<Graph::Use>> uses;
  std::vector<double> flops;  // by instruction, at least 1
  // By instruction and result: partial axes that every user passes on to an output that is demanded
  // partial. They cost nothing.
  std::vector<std::vector<AxisList>> accepted_partials;
  // By instruction and operand: among how many like users (same op, pass and operand number) a
  // reshard of the operand is shared, weighted by FLOPs.
  std::vector<std::vector<double>> operand_shares;
  // For values that are added up with others made by the same op: among how many, by FLOPs, the
  // reduction of the sum is shared. Absent: 1.
  std::map<Value, double> sum_shares;
  // All values that a tree of additions adds up, for each of them; absent for trees of more than
  // 16.
  std::map<Value, std::vector<Value>> addends;

 private:
  void find_accepted_partials(const Graph& graph);
  void find_shares(const Graph& graph);
};

}  // namespace tessera
