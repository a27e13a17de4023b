#include "partitioner/move_reshards.h"

#include <algorithm>
#include <optional>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/sharding.h"
#include "partitioner/op_layout.h"
#include "partitioner/uses.h"

namespace tessera {
namespace {

// What was moved is no longer used where it was. Control flow stays as it is, used or not: its
// operands lie as its regions say.
Graph without_unused(const Graph& graph) {
  const auto uses = graph.uses();
  std::vector<bool> is_used(graph.instructions.size(), false);
  for (const GraphOutput& output : graph.outputs)
    is_used[static_cast<size_t>(output.value.instruction)] = true;
  for (size_t i = graph.instructions.size(); i-- > 0;) {
    const Instruction& instruction = graph.instructions[i];
    if (instruction.operands.empty() || !control_regions(instruction).empty()) is_used[i] = true;
    for (const Graph::Use& use : uses[i])
      if (is_used[static_cast<size_t>(use.user)]) is_used[i] = true;
  }
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i)
    if (is_used[i]) rewriter.copy(static_cast<int>(i));
  return rewriter.finish();
}

class Mover {
 public:
  Mover(const Graph& source, ReshardPlanner& planner)
      : source_(source), planner_(planner), uses_(source), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const int index = static_cast<int>(i);
      const Instruction& instruction = source_.instructions[i];
      if (instruction.is(ops::kReshard) ? move_above(index) : move_below(index)) continue;
      rewriter_.copy(index);
    }
    return without_unused(rewriter_.finish());
  }

 private:
  // An op as it would run with its one operand, or its result, lying otherwise.
  struct Other {
    FactorAxes axes;
    Sharding operand, result;
  };

  Graph& made() { return rewriter_.result(); }

  static bool may_be_passed(const Instruction& op) {
    return op.operands.size() == 1 && op.results.size() == 1 && !op.is(ops::kReshard) &&
           !op.op->communicates && control_regions(op).empty();
  }

  // `op` (of the new graph) with its operand (or its result) lying as `sharding`; nothing if it
  // would have to communicate.
  std::optional<Other> with(const Instruction& op, bool is_operand, const Sharding& sharding) {
    const OpRules rules = op_rules(made(), op);
    const FactorRule& rule = rules.factors;
    if (rule.operands.size() != 1 || rule.results.size() != 1) return std::nullopt;
    bool is_exact = false;
    Other other;
    other.axes =
        project(rule, is_operand ? rule.operands[0] : rule.results[0], sharding, &is_exact);
    if (!is_exact || !is_legal(rules, other.axes)) return std::nullopt;
    for (size_t f = 0; f < other.axes.size(); ++f)
      if (!other.axes[f].empty() && rule.factors[f].kind != FactorKind::pass_through &&
          rule.factors[f].kind != FactorKind::reduction)
        return std::nullopt;
    const TensorType& type = made().type(op.operands[0]);
    const std::vector<Sharding> whole = {Sharding(made().mesh, type.rank())};
    const std::vector<int64_t> bytes = {type.bytes()};
    const OpLayout layout = op_layout(made().mesh, rules, other.axes, whole, bytes);
    other.operand = layout.operands[0];
    other.result = layout.results[0];
    if (!(is_operand ? other.operand : other.result).same_layout(sharding)) return std::nullopt;
    return other;
  }

  // Fewer bytes for one reshard than for the other, and no more time.
  bool is_cheaper(const ReshardPlan& then, const ReshardPlan& now) const {
    return then.wire_bytes < now.wire_bytes && then.seconds <= now.seconds;
  }

  static Instruction reshard_of(Instruction like, Value value, const TensorType& type,
                                const Sharding& to) {
    like.operands = {value};
    like.attributes.set(Attr::sharding, to.closed());
    like.results[0].type = type;
    like.results[0].sharding = to.closed();
    return like;
  }

  // op(reshard(x)) -> reshard(op(x)), where `index` is the op.
  bool move_below(int index) {
    const Instruction& source_op = source_.instructions[static_cast<size_t>(index)];
    if (!may_be_passed(source_op) || !uses_.has_one_use(source_op.operands[0])) return false;
    const Value operand = rewriter_.mapped(source_op.operands[0]);
    const Instruction reshard = made().at(operand);
    if (!reshard.is(ops::kReshard) || !reshard.results[0].name.empty()) return false;
    const Value x = reshard.operands[0];
    const Sharding before = made().sharding(x), after = made().sharding(operand);
    if (before.is_partial() || after.is_partial()) return false;
    Instruction op = source_op;
    op.operands = {x};
    const Sharding wanted = op.results[0].sharding->closed();
    const std::optional<Other> other = with(op, true, before);
    if (!other) return false;
    const TensorType type = op.results[0].type;
    if (!is_cheaper(planner_.plan(other->result, wanted, type),
                    planner_.plan(before, after, made().type(x))))
      return false;
    const ResultInfo info = op.results[0];
    op.factor_axes = other->axes;
    op.results[0] = {type, other->result, {}, ""};
    Value result = rewriter_.append(std::move(op));
    if (!other->result.same_layout(wanted)) {
      Instruction moved = reshard_of(reshard, result, type, wanted);
      if (!info.logical_axes.empty()) moved.results[0].logical_axes = info.logical_axes;
      moved.results[0].name = info.name;
      result = rewriter_.append(std::move(moved));
    } else {
      made().info(result).name = info.name;
      made().info(result).logical_axes = info.logical_axes;
    }
    rewriter_.replace({index, 0}, result);
    return true;
  }

  // reshard(op(x)) -> op(reshard(x)), where `index` is the reshard; and on above what made x.
  bool move_above(int index) {
    const Instruction& reshard = source_.instructions[static_cast<size_t>(index)];
    const std::optional<Value> result =
        lying(reshard.operands[0], *reshard.results[0].sharding, reshard);
    if (!result) return false;
    ResultInfo& info = made().info(*result);
    if (!reshard.results[0].name.empty()) info.name = reshard.results[0].name;
    if (!reshard.results[0].logical_axes.empty())
      info.logical_axes = reshard.results[0].logical_axes;
    rewriter_.replace({index, 0}, *result);
    return true;
  }

  // `value` of the source, made anew so that it lies as `to`, where that is cheaper than to reshard
  // it.
  std::optional<Value> lying(Value value, const Sharding& to, const Instruction& reshard) {
    if (!uses_.has_one_use(value) || to.is_partial()) return std::nullopt;
    const Instruction& source_op = source_.at(value);
    const Value now = rewriter_.mapped(value);
    if (!may_be_passed(source_op) || made().at(now).op != source_op.op ||
        made().sharding(now).is_partial())
      return std::nullopt;
    Instruction op = made().at(now);
    const Value x = op.operands[0];
    const Sharding from = made().sharding(x);
    const std::optional<Other> other = with(op, false, to);
    if (!other || from.is_partial()) return std::nullopt;
    if (!is_cheaper(planner_.plan(from, other->operand, made().type(x)),
                    planner_.plan(made().sharding(now), to, op.results[0].type)))
      return std::nullopt;
    op.operands[0] = x;
    if (!from.same_layout(other->operand)) {
      const std::optional<Value> higher = lying(source_op.operands[0], other->operand, reshard);
      if (higher) {
        op.operands[0] = *higher;
      } else {
        Instruction moved = reshard_of(reshard, x, made().type(x), other->operand);
        moved.results[0].name.clear();
        moved.results[0].logical_axes.clear();
        op.operands[0] = rewriter_.append(std::move(moved));
      }
    }
    op.factor_axes = other->axes;
    op.results[0].sharding = other->result;
    return rewriter_.append(std::move(op));
  }

  const Graph& source_;
  ReshardPlanner& planner_;
  const Uses uses_;
  GraphRewriter rewriter_;
};

}  // namespace

Graph move_reshards(const Graph& graph, ReshardPlanner& planner) {
  return Mover(graph, planner).run();
}

}  // namespace tessera
