#include "core/passes/fuse_residual_norms.h"

#include <algorithm>
#include <optional>

#include "core/ir/regions.h"
#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/residual_norm.h"
#include "core/ops/structure.h"
#include "core/passes/kernel_accepts.h"
#include "core/passes/merge_instructions.h"
#include "core/passes/ordered_rewriter.h"

namespace tessera {
namespace {

// A sum and a norm that become one instruction.
struct ResidualPair {
  const OpDef* op;
  int sum, norm;
  std::vector<Value> operands;
};

class ResidualFuser {
 public:
  ResidualFuser(const Graph& graph, const KernelTable& kernels)
      : graph_(graph), kernels_(kernels), uses_(graph.uses()) {
    for (const GraphOutput& output : graph.outputs)
      uses_[index(output.value)].push_back({-1, -1, output.value.result});
  }

  // Those that may be merged, of each instruction the first.
  std::vector<Merge> merges() const {
    std::vector<Merge> found;
    std::vector<bool> is_member(graph_.instructions.size(), false);
    for (int i = 0; i < static_cast<int>(graph_.instructions.size()); ++i) {
      const std::optional<ResidualPair> pair = at(i).is(ops::kAdd) ? behind_gradient(i) : before_norm(i);
      if (!pair) continue;
      const auto sum = static_cast<size_t>(pair->sum), norm = static_cast<size_t>(pair->norm);
      if (is_member[sum] || is_member[norm] || !is_accepted(*pair)) continue;
      is_member[sum] = is_member[norm] = true;
      found.push_back(merge_of(*pair));
    }
    return found;
  }

 private:
  static size_t index(Value value) { return static_cast<size_t>(value.instruction); }
  const Instruction& at(int i) const { return graph_.instructions[static_cast<size_t>(i)]; }

  Merge merge_of(const ResidualPair& pair) const {
    Merge merge{{std::min(pair.norm, pair.sum), std::max(pair.norm, pair.sum)}, at(pair.norm), {}};
    merge.one.op = pair.op;
    merge.one.operands = pair.operands;
    merge.one.factor_axes.clear();
    for (int r = 0; r < static_cast<int>(merge.one.results.size()); ++r) merge.stands_for.push_back({pair.norm, r});
    const ResultInfo& sum = at(pair.sum).results[0];
    if (pair.norm < pair.sum) {  // the gradient alone is read by nobody else
      merge.one.results[0] = sum;
      merge.stands_for[0] = {pair.sum, 0};
    } else {
      merge.one.results.push_back(sum);
      merge.stands_for.push_back({pair.sum, 0});
    }
    return merge;
  }

  // Whether the fusion of elementwise chains would compute `value` on the way into its only reader.
  bool is_in_chain(Value value) const {
    const Instruction& it = graph_.at(value);
    return (it.op->elementwise && uses_[index(value)].size() == 1) || it.is(ops::kBroadcastInDim);
  }

  // The norm at `i` of a sum.
  std::optional<ResidualPair> before_norm(int i) const {
    const Instruction& norm = at(i);
    if (!norm.is(ops::kLayerNorm) && !norm.is(ops::kRmsNorm)) return std::nullopt;
    const int sum = norm.operands[0].instruction;
    if (!at(sum).is(ops::kAdd) || at(sum).recompute != norm.recompute) return std::nullopt;
    std::vector<Value> operands = at(sum).operands;
    for (const Value operand : operands)
      if (is_in_chain(operand)) return std::nullopt;
    for (size_t o = 1; o < norm.operands.size(); ++o) {
      if (depends_on(graph_, norm.operands[o].instruction, sum)) return std::nullopt;
      operands.push_back(norm.operands[o]);
    }
    return ResidualPair{norm.is(ops::kLayerNorm) ? &ops::kAddLayerNorm : &ops::kAddRmsNorm, sum, i, operands};
  }

  // The sum at `i` of a norm's gradient that is read nowhere else.
  std::optional<ResidualPair> behind_gradient(int i) const {
    for (const int side : {0, 1}) {
      const Value dx = at(i).operands[static_cast<size_t>(side)], other = at(i).operands[static_cast<size_t>(1 - side)];
      const Instruction& norm = graph_.at(dx);
      if ((!norm.is(ops::kLayerNormGrad) && !norm.is(ops::kRmsNormGrad)) || dx.result != 0 || dx == other ||
          norm.recompute != at(i).recompute || readers(dx) != 1 ||
          depends_on(graph_, other.instruction, dx.instruction))
        continue;
      std::vector<Value> operands = norm.operands;
      operands.push_back(other);
      const OpDef* op = norm.is(ops::kLayerNormGrad) ? &ops::kLayerNormGradAdd : &ops::kRmsNormGradAdd;
      return ResidualPair{op, i, dx.instruction, operands};
    }
    return std::nullopt;
  }

  // Of this one result.
  int64_t readers(Value value) const {
    const std::vector<Graph::Use>& uses = uses_[index(value)];
    return std::count_if(uses.begin(), uses.end(), [&](const Graph::Use& use) { return use.result == value.result; });
  }

  bool is_accepted(const ResidualPair& pair) const {
    std::vector<TensorType> operands;
    for (const Value operand : pair.operands) operands.push_back(graph_.type(operand));
    return kernel_accepts(kernels_, *pair.op, operands, at(pair.norm).attributes);
  }

  const Graph& graph_;
  const KernelTable& kernels_;
  std::vector<std::vector<Graph::Use>> uses_;  // of each instruction's results, by outputs as well
};

// Again and again, since pairs that do not depend on each other before may do so behind another one.
Graph fuse_all(Graph graph, const KernelTable& kernels) {
  while (true) {
    const std::vector<Merge> merges = ResidualFuser(graph, kernels).merges();
    if (merges.empty()) return graph;
    graph = merge_instructions(graph, merges);
  }
}

}  // namespace

Graph fuse_residual_norms(const Graph& graph, const KernelTable& kernels) {
  return with_regions(graph, [&](const Graph& source) { return fuse_all(source, kernels); });
}

}  // namespace tessera
