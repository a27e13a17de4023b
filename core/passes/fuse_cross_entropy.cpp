#include "core/passes/fuse_cross_entropy.h"

#include <algorithm>
#include <optional>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/loss.h"
#include "core/ops/structure.h"
#include "core/passes/dead_code.h"
#include "core/passes/kernel_accepts.h"
#include "core/passes/ordered_rewriter.h"

namespace tessera {
namespace {

// The instructions that one op replaces.
struct Parts {
  int max, sum, gradient;
  Value logits, targets, d_target;
  Value numerator;  // d_sum * sum_exp
};

// What may be said of numerators: offset + slope * lse, where neither depends on the parts.
class Linear {
 public:
  Linear(const Graph& graph, const Parts& parts)
      : graph_(graph), parts_(parts), depends_(depending(graph, {parts.max, parts.sum}, parts.gradient)) {}

  bool depends(Value value) const { return depends_[static_cast<size_t>(value.instruction)]; }

  // max + log(sum), in either order.
  bool is_lse(Value value) const {
    const Instruction& it = graph_.at(value);
    if (!it.is(ops::kAdd)) return false;
    for (int first : {0, 1}) {
      const Value max = it.operands[static_cast<size_t>(first)], log = it.operands[static_cast<size_t>(1 - first)];
      if (max == Value{parts_.max, 0} && graph_.at(log).is(ops::kLog) &&
          graph_.at(log).operands[0] == Value{parts_.sum, 0})
        return true;
    }
    return false;
  }

  bool is_linear(Value value) const {
    if (!depends(value) || is_lse(value)) return true;
    const Instruction& it = graph_.at(value);
    if (it.is(ops::kAdd) || it.is(ops::kSubtract))
      return is_linear(it.operands[0]) && is_linear(it.operands[1]);
    if (it.is(ops::kNegate)) return is_linear(it.operands[0]);
    if (it.is(ops::kMultiply))
      return depends(it.operands[0]) ? !depends(it.operands[1]) && is_linear(it.operands[0])
                                     : is_linear(it.operands[1]);
    if (it.is(ops::kDivide)) return !depends(it.operands[1]) && is_linear(it.operands[0]);
    return false;
  }

  // The offset in the new graph; invalid where it is zero.
  Value offset(OrderedRewriter& rewriter, Value value) const {
    if (!depends(value)) return rewriter.made(value);
    if (is_lse(value)) return {};
    return combined(rewriter, value, [&](Value operand) { return offset(rewriter, operand); });
  }
  // The slope, likewise.
  Value slope(OrderedRewriter& rewriter, Value value) const {
    if (!depends(value)) return {};
    if (is_lse(value)) return ops::constant(rewriter.builder(), 1.0, graph_.type(value));
    const Instruction& it = graph_.at(value);
    if (it.is(ops::kMultiply) && is_lse(it.operands[0])) return rewriter.made(it.operands[1]);
    if (it.is(ops::kMultiply) && is_lse(it.operands[1])) return rewriter.made(it.operands[0]);
    return combined(rewriter, value, [&](Value operand) { return slope(rewriter, operand); });
  }

 private:
  // The instruction of `value` on part(operand) of its operands; factors and divisors are whole.
  template <typename Part>
  Value combined(OrderedRewriter& rewriter, Value value, Part&& part) const {
    Instruction made = graph_.at(value);
    const bool is_sum = made.is(ops::kAdd) || made.is(ops::kSubtract);
    std::vector<Value> operands;
    for (const Value operand : made.operands)
      operands.push_back(is_sum || depends(operand) || made.operands.size() == 1 ? part(operand)
                                                                                  : rewriter.made(operand));
    if (is_sum && !operands[1].valid()) return operands[0];
    if (is_sum && !operands[0].valid()) {
      if (made.is(ops::kAdd)) return operands[1];
      made.op = &ops::kNegate;
      operands = {operands[1]};
    }
    for (const Value operand : operands)
      if (!operand.valid()) return {};
    made.operands = std::move(operands);
    return rewriter.append(std::move(made));
  }

  const Graph& graph_;
  const Parts& parts_;
  std::vector<bool> depends_;
};

class CrossEntropyFuser {
 public:
  CrossEntropyFuser(const Graph& graph, const KernelTable& kernels) : graph_(graph), kernels_(kernels) {}

  // The first parts that may be merged.
  std::optional<Parts> find() const {
    for (int i = 0; i < static_cast<int>(graph_.instructions.size()); ++i) {
      const std::optional<Parts> parts = parts_of(i);
      if (parts && may_merge(*parts)) return parts;
    }
    return std::nullopt;
  }

  Graph merged(const Parts& parts) const {
    OrderedRewriter rewriter(graph_);
    const Linear linear(graph_, parts);
    const auto put = [&] {
      Instruction made;
      made.op = &ops::kCrossEntropyWithGrad;
      made.attributes = at(parts.gradient).attributes;
      made.operands = {rewriter.made(parts.logits), rewriter.made(parts.targets), rewriter.made(parts.d_target),
                       linear.offset(rewriter, parts.numerator)};
      if (const Value slope = linear.slope(rewriter, parts.numerator); slope.valid())
        made.operands.push_back(slope);
      if (!made.operands[3].valid())
        made.operands[3] = ops::constant(rewriter.builder(), 0.0, graph_.type(parts.numerator));
      made.results = {at(parts.max).results[0], at(parts.sum).results[0], at(parts.sum).results[1],
                      at(parts.gradient).results[0]};
      made.scope = at(parts.max).scope;
      made.recompute = at(parts.max).recompute;
      const int all = rewriter.append(std::move(made)).instruction;
      rewriter.replace({parts.max, 0}, {all, 0});
      rewriter.replace({parts.sum, 0}, {all, 1});
      rewriter.replace({parts.sum, 1}, {all, 2});
      rewriter.replace({parts.gradient, 0}, {all, 3});
    };
    rewriter.merge({parts.max, parts.sum, parts.gradient}, put);
    return rewriter.run();
  }

 private:
  const Instruction& at(int i) const { return graph_.instructions[static_cast<size_t>(i)]; }

  // Those of the gradient at `i`.
  std::optional<Parts> parts_of(int i) const {
    const Instruction& gradient = at(i);
    if (!gradient.is(ops::kLogitsSumGrad) || gradient.operands.size() != 5) return std::nullopt;
    const Value logits = gradient.operands[0], max = gradient.operands[1], targets = gradient.operands[2],
                d_sum = gradient.operands[3];
    if (!graph_.at(max).is(ops::kLogitsMax) || graph_.at(max).operands != std::vector{logits} ||
        graph_.at(max).attributes != gradient.attributes || !graph_.at(d_sum).is(ops::kDivide))
      return std::nullopt;
    const Value sum = graph_.at(d_sum).operands[1];
    const Instruction& of_sum = graph_.at(sum);
    if (!of_sum.is(ops::kLogitsSum) || sum.result != 0 || of_sum.operands != std::vector{logits, max, targets} ||
        of_sum.attributes != gradient.attributes)
      return std::nullopt;
    return Parts{max.instruction, sum.instruction, i, logits, targets, gradient.operands[4],
                 graph_.at(d_sum).operands[0]};
  }

  bool may_merge(const Parts& parts) const {
    const Linear linear(graph_, parts);
    if (linear.depends(parts.d_target) || !linear.is_linear(parts.numerator)) return false;
    std::vector<TensorType> operands = {graph_.type(parts.logits), graph_.type(parts.targets),
                                        graph_.type(parts.d_target), graph_.type(parts.numerator)};
    if (linear.depends(parts.numerator)) operands.push_back(operands[3]);
    return kernel_accepts(kernels_, ops::kCrossEntropyWithGrad, operands, at(parts.gradient).attributes);
  }

  const Graph& graph_;
  const KernelTable& kernels_;
};

// One after the other: cotangents of one may depend on another's loss, which merging both at once would
// make a cycle of.
Graph fuse_losses(Graph graph, const KernelTable& kernels) {
  bool has_changed = false;
  while (const std::optional<Parts> parts = CrossEntropyFuser(graph, kernels).find()) {
    graph = CrossEntropyFuser(graph, kernels).merged(*parts);
    has_changed = true;
  }
  return has_changed ? eliminate_dead_code(graph) : graph;  // the old cotangent of the sum
}

}  // namespace

Graph fuse_cross_entropy(const Graph& graph, const KernelTable& kernels) {
  return with_regions(graph, [&](const Graph& source) { return fuse_losses(source, kernels); });
}

}  // namespace tessera
