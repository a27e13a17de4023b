#include "core/compile/weight_gathers.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace tessera {
namespace {

// More local steps than this, and it is a computation rather than a preparation.
constexpr size_t kMostSteps = 8;

// The local ancestors of `node`; false where there is a collective or too much among them.
bool collect_ancestors(const StepGraph& steps, int node, std::set<int>& found) {
  for (int before : steps.nodes[static_cast<size_t>(node)].before) {
    if (found.contains(before)) continue;
    const StepNode& ancestor = steps.nodes[static_cast<size_t>(before)];
    if (ancestor.kind != StepNode::Kind::kernel && ancestor.kind != StepNode::Kind::rank_data)
      return false;
    found.insert(before);
    if (found.size() > kMostSteps || !collect_ancestors(steps, before, found)) return false;
  }
  return true;
}

// The parameter that the node reads, or -1.
int weight_read(const StepGraph& steps, const Graph& graph, int node) {
  for (int read : steps.nodes[static_cast<size_t>(node)].reads) {
    const int input = steps.buffers[static_cast<size_t>(steps.root(read))].input;
    if (input >= 0 && graph.inputs[static_cast<size_t>(input)].kind == InputKind::parameter)
      return input;
  }
  return -1;
}

}  // namespace

std::vector<WeightGather> find_weight_gathers(const StepGraph& steps, const Graph& graph) {
  std::vector<WeightGather> gathers;
  for (size_t n = 0; n < steps.nodes.size(); ++n) {
    const StepNode& node = steps.nodes[n];
    if (node.kind != StepNode::Kind::collective || node.collective != CollectiveKind::all_gather)
      continue;
    std::set<int> ancestors;
    if (!collect_ancestors(steps, static_cast<int>(n), ancestors)) continue;
    int input = weight_read(steps, graph, static_cast<int>(n));
    for (int ancestor : ancestors) input = std::max(input, weight_read(steps, graph, ancestor));
    if (input < 0) continue;
    gathers.push_back({static_cast<int>(n),
                       {ancestors.begin(), ancestors.end()},
                       steps.buffers[static_cast<size_t>(node.writes[0])].bytes,
                       input});
  }
  return gathers;
}

int64_t largest_block_bytes(const std::vector<WeightGather>& gathers, const StepGraph& steps,
                            const Graph& graph) {
  std::map<std::string, int64_t> of_block;
  std::set<int> counted;  // the gathers of one parameter, forward and backward, are two visits
  int64_t largest = 0;
  for (const WeightGather& gather : gathers) {
    const int instruction = steps.nodes[static_cast<size_t>(gather.node)].instruction;
    const Instruction& made = graph.instructions[static_cast<size_t>(instruction)];
    if (!counted.insert(gather.input).second) continue;
    const std::string block = made.scope.substr(0, made.scope.find('/'));
    largest = std::max(largest, of_block[block] += gather.bytes);
  }
  return largest;
}

}  // namespace tessera
