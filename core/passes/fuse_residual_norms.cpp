#include "core/passes/fuse_residual_norms.h"

#include <algorithm>
#include <optional>

#include "core/ir/regions.h"
#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/residual_norm.h"
#include "core/ops/structure.h"
#include "core/passes/kernel_accepts.h"
#include "core/passes/ordered_rewriter.h"

namespace tessera {
namespace {

// A sum and a norm that become one instruction.
struct Pair {
  const OpDef* op;
  int sum, norm;
  std::vector<Value> operands;
};

class Fuser {
 public:
  Fuser(const Graph& graph, const KernelTable& kernels)
      : graph_(graph), kernels_(kernels), uses_(graph.instructions.size(), 0) {
    for (const Instruction& instruction : graph.instructions)
      for (const Value operand : instruction.operands) ++uses_[index(operand)];
    for (const GraphOutput& output : graph.outputs) ++uses_[index(output.value)];
  }

  // The first pair from instruction `first` on that may be merged.
  std::optional<Pair> find(int first) const {
    for (int i = first; i < static_cast<int>(graph_.instructions.size()); ++i) {
      const Instruction& it = graph_.instructions[static_cast<size_t>(i)];
      std::optional<Pair> pair = it.is(ops::kAdd) ? behind_gradient(i) : before_norm(i);
      if (pair && is_accepted(*pair)) return pair;
    }
    return std::nullopt;
  }

  Graph merged(const Pair& pair) const {
    OrderedRewriter rewriter(graph_);
    const bool is_gradient = pair.norm < pair.sum;
    const auto put = [&] {
      Instruction made = at(pair.norm);
      made.op = pair.op;
      made.operands.clear();
      for (const Value operand : pair.operands) made.operands.push_back(rewriter.made(operand));
      made.factor_axes.clear();
      const int own = static_cast<int>(made.results.size());
      const ResultInfo& sum = at(pair.sum).results[0];
      if (is_gradient)
        made.results[0] = sum;
      else
        made.results.push_back(sum);
      const int all = rewriter.append(std::move(made)).instruction;
      for (int r = 0; r < own; ++r) rewriter.replace({pair.norm, r}, {all, r});
      rewriter.replace({pair.sum, 0}, {all, is_gradient ? 0 : own});
    };
    return rewriter.run({{{std::min(pair.norm, pair.sum), std::max(pair.norm, pair.sum)}, put}});
  }

 private:
  static size_t index(Value value) { return static_cast<size_t>(value.instruction); }
  const Instruction& at(int i) const { return graph_.instructions[static_cast<size_t>(i)]; }

  // Whether the fusion of elementwise chains would compute `value` on the way into its only reader.
  bool is_in_chain(Value value) const {
    const Instruction& it = graph_.at(value);
    return (it.op->elementwise && uses_[index(value)] == 1) || it.is(ops::kBroadcastInDim);
  }

  // The norm at `i` of a sum.
  std::optional<Pair> before_norm(int i) const {
    const Instruction& norm = at(i);
    if (!norm.is(ops::kLayerNorm) && !norm.is(ops::kRmsNorm)) return std::nullopt;
    const int sum = norm.operands[0].instruction;
    if (!at(sum).is(ops::kAdd) || at(sum).recompute != norm.recompute) return std::nullopt;
    std::vector<Value> operands = at(sum).operands;
    for (const Value operand : operands)
      if (is_in_chain(operand)) return std::nullopt;
    const std::vector<bool> depends = depending(graph_, {sum});
    for (size_t o = 1; o < norm.operands.size(); ++o) {
      if (depends[index(norm.operands[o])]) return std::nullopt;
      operands.push_back(norm.operands[o]);
    }
    return Pair{norm.is(ops::kLayerNorm) ? &ops::kAddLayerNorm : &ops::kAddRmsNorm, sum, i, operands};
  }

  // The sum at `i` of a norm's gradient that is read nowhere else.
  std::optional<Pair> behind_gradient(int i) const {
    for (const int side : {0, 1}) {
      const Value dx = at(i).operands[static_cast<size_t>(side)], other = at(i).operands[static_cast<size_t>(1 - side)];
      const Instruction& norm = graph_.at(dx);
      if ((!norm.is(ops::kLayerNormGrad) && !norm.is(ops::kRmsNormGrad)) || dx.result != 0 || dx == other ||
          norm.recompute != at(i).recompute || readers(dx) != 1 || depending(graph_, {dx.instruction})[index(other)])
        continue;
      std::vector<Value> operands = norm.operands;
      operands.push_back(other);
      return Pair{norm.is(ops::kLayerNormGrad) ? &ops::kLayerNormGradAdd : &ops::kRmsNormGradAdd, i, dx.instruction,
                  operands};
    }
    return std::nullopt;
  }

  // Of this one result.
  int readers(Value value) const {
    int found = 0;
    for (const Instruction& instruction : graph_.instructions)
      found += static_cast<int>(std::count(instruction.operands.begin(), instruction.operands.end(), value));
    for (const GraphOutput& output : graph_.outputs) found += output.value == value;
    return found;
  }

  bool is_accepted(const Pair& pair) const {
    std::vector<TensorType> operands;
    for (const Value operand : pair.operands) operands.push_back(graph_.type(operand));
    return kernel_accepts(kernels_, *pair.op, operands, at(pair.norm).attributes);
  }

  const Graph& graph_;
  const KernelTable& kernels_;
  std::vector<int> uses_;  // instruction -> uses of its results
};

// One after the other, since merging moves what stands between: pairs that do not depend on each other
// before may do so behind it.
Graph fuse_all(Graph graph, const KernelTable& kernels) {
  int first = 0;
  while (true) {
    const Fuser fuser(graph, kernels);
    const std::optional<Pair> pair = fuser.find(first);
    if (!pair) return graph;
    first = std::min(pair->norm, pair->sum);
    graph = fuser.merged(*pair);
  }
}

}  // namespace

Graph fuse_residual_norms(const Graph& graph, const KernelTable& kernels) {
  return with_regions(graph, [&](const Graph& source) { return fuse_all(source, kernels); });
}

}  // namespace tessera
