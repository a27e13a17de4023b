#include "core/passes/product_scales.h"

#include <map>
#include <optional>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/scaled_product.h"
#include "core/ops/structure.h"
#include "core/passes/dead_code.h"

namespace tessera {
namespace {

class ScaleFuser {
 public:
  ScaleFuser(const Graph& graph, const KernelTable& kernels)
      : graph_(graph), kernels_(kernels), uses_(graph.uses()), is_output_(graph.instructions.size(), false) {
    for (const GraphOutput& output : graph.outputs) is_output_[at(output.value.instruction)] = true;
  }

  Graph run() {
    std::map<int, Instruction> made;  // by the instruction whose place it takes; operands are of the source
    for (size_t i = 0; i < graph_.instructions.size(); ++i)
      if (auto fused = fused_from(static_cast<int>(i))) made.insert(std::move(*fused));
    if (made.empty()) return graph_;
    // The rest of each chain is left without use.
    GraphRewriter rewriter(graph_);
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      const auto found = made.find(static_cast<int>(i));
      if (found == made.end()) {
        rewriter.copy(static_cast<int>(i));
        continue;
      }
      for (Value& operand : found->second.operands) operand = rewriter.mapped(operand);
      rewriter.replace({found->first, 0}, rewriter.append(std::move(found->second)));
    }
    return eliminate_dead_code(rewriter.finish());
  }

 private:
  static size_t at(int index) { return static_cast<size_t>(index); }
  const Instruction& instruction(int i) const { return graph_.instructions[at(i)]; }

  // The chain that begins with the multiplication `i`, as far as a kernel takes it.
  std::optional<std::pair<int, Instruction>> fused_from(int i) const {
    if (!instruction(i).is(ops::kMultiply)) return std::nullopt;
    for (const int side : {0, 1}) {
      const Value product = instruction(i).operands[at(side)];
      const auto scales = scales_of(instruction(i).operands[at(1 - side)]);
      if (!scales || !is_f8_product(product) || !is_only_for(product.instruction, i)) continue;
      Instruction scaled = graph_.at(product);
      scaled.op = &ops::kScaledDotGeneral;
      scaled.operands.insert(scaled.operands.end(), {scales->first, scales->second});
      scaled.factor_axes.clear();
      std::optional<std::pair<int, Instruction>> best;
      const auto offer = [&](int end) {
        scaled.results = {instruction(end).results[0]};
        scaled.attributes.set(Attr::dtype, scaled.results[0].type.dtype);
        if (is_taken(scaled)) best.emplace(end, scaled);
      };
      offer(i);
      int end = i;
      if (const auto next = only_user(end); next && instruction(*next).is(ops::kConvert)) offer(end = *next);
      if (const auto next = only_user(end); next && instruction(*next).is(ops::kAdd)) {
        if (const auto bias = bias_in(*next, end)) {
          scaled.operands.push_back(*bias);
          offer(*next);
        }
      }
      return best;
    }
    return std::nullopt;
  }

  bool is_f8_product(Value value) const {
    const Instruction& product = graph_.at(value);
    return product.is(ops::kDotGeneral) && product.attributes.ints(Attr::lhs_batch).empty() &&
           is_f8(graph_.type(product.operands[0]).dtype);
  }

  std::optional<std::pair<Value, Value>> scales_of(Value value) const {
    const Instruction& broadcast = graph_.at(value);
    if (!broadcast.is(ops::kBroadcastInDim)) return std::nullopt;
    Value scalar = broadcast.operands[0];
    if (graph_.at(scalar).is(ops::kConvert)) scalar = graph_.at(scalar).operands[0];
    if (graph_.type(scalar) != TensorType{DType::f32, {}} || !graph_.at(scalar).is(ops::kMultiply)) return std::nullopt;
    return std::pair{graph_.at(scalar).operands[0], graph_.at(scalar).operands[1]};
  }

  // What `add` adds to the result of `end`, where that is repeated along all but its last dims, those of rhs.
  std::optional<Value> bias_in(int add, int end) const {
    const std::vector<Value>& terms = instruction(add).operands;
    const Value other = terms[terms[0].instruction == end ? 1 : 0];
    const Instruction& broadcast = graph_.at(other);
    if (!broadcast.is(ops::kBroadcastInDim) || other.instruction == end) return std::nullopt;
    const Value bias = broadcast.operands[0];
    const Shape &own = graph_.type(bias).shape, &wide = graph_.type(other).shape;
    const Ints& dims = broadcast.attributes.ints(Attr::dimensions);
    for (int d = 0; d < own.rank(); ++d) {
      const int to = wide.rank() - own.rank() + d;
      if (dims[at(d)] != to || own[d] != wide[to]) return std::nullopt;
    }
    return bias;
  }

  bool is_only_for(int made, int user) const { return only_user(made) == user; }
  std::optional<int> only_user(int i) const {
    if (is_output_[at(i)] || uses_[at(i)].size() != 1) return std::nullopt;
    const int user = uses_[at(i)][0].user;
    if (instruction(user).recompute != instruction(i).recompute) return std::nullopt;
    return user;
  }

  bool is_taken(const Instruction& made) const {
    try {
      return with_call(graph_, made, [&](const OpCall& call) {
        const std::vector<TensorType> results = infer_types(*made.op, call);
        return results == Graph::result_types(made) && !kernels_.choose(*made.op, call, results).kernel->is_reference;
      });
    } catch (const UserError&) {
      return false;  // a bias that is not along rhs' dims
    }
  }

  const Graph& graph_;
  const KernelTable& kernels_;
  std::vector<std::vector<Graph::Use>> uses_;
  std::vector<bool> is_output_;
};

}  // namespace

Graph fuse_product_scales(const Graph& graph, const KernelTable& kernels) {
  return with_regions(graph, [&](const Graph& source) { return ScaleFuser(source, kernels).run(); });
}

}  // namespace tessera
