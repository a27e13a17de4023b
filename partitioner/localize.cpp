#include "partitioner/localize.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/ir/local_call.h"
#include "core/ir/parameter.h"
#include "core/ir/partition_context.h"
#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/padding.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// What an op's `partition` is shown, see core/ir/partition_context.h.
class LocalPartition final : public PartitionContext {
 public:
  LocalPartition(const Graph& source, const Instruction& instruction, const FactorRule& rule,
                 const OpCall& call, GraphRewriter& rewriter)
      : source_(source), instruction_(instruction), rule_(rule), call_(call), rewriter_(rewriter),
        result_types_(Graph::result_types(instruction)) {
    for (const ResultInfo& result : instruction.results)
      local_types_.push_back(
          {result.type.dtype, result.sharding->local_shape(result.stored_shape())});
  }

  Builder& builder() override { return rewriter_.builder(); }
  const OpCall& call() const override { return call_; }
  std::span<const TensorType> result_types() const override { return result_types_; }
  const FactorRule& rule() const override { return rule_; }
  const AxisList& axes(int factor) const override {
    return instruction_.factor_axes[static_cast<size_t>(factor)];
  }
  Value operand(int index) const override {
    return rewriter_.mapped(instruction_.operands[static_cast<size_t>(index)]);
  }
  const Sharding& operand_sharding(int index) const override {
    return source_.sharding(instruction_.operands[static_cast<size_t>(index)]);
  }
  const Sharding& result_sharding(int index) const override {
    return *instruction_.results[static_cast<size_t>(index)].sharding;
  }
  const TensorType& local_result_type(int index) const override {
    return local_types_[static_cast<size_t>(index)];
  }

 private:
  const Graph& source_;
  const Instruction& instruction_;
  const FactorRule& rule_;
  const OpCall& call_;
  GraphRewriter& rewriter_;
  std::vector<TensorType> result_types_, local_types_;
};

class Localizer {
 public:
  explicit Localizer(const Graph& source) : source_(source), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) localize_one(static_cast<int>(i));
    Graph local = rewriter_.finish();
    local.is_local = true;
    return local;
  }

 private:
  void localize_one(int index) {
    Instruction instruction = source_.instructions[static_cast<size_t>(index)];
    TESSERA_CHECK(!instruction.is(ops::kReshard), "%", index, " is still a reshard");
    if (changes_nothing(instruction))
      return rewriter_.replace({index, 0}, rewriter_.mapped(instruction.operands[0]));
    if (!instruction.factor_axes.empty()) {
      const FactorRule rule = factor_rule(source_, instruction);
      if (needs_partition(*instruction.op, rule, instruction.factor_axes) ||
          instruction.is(ops::kResizePadding))
        return partition_one(index, rule);
    }
    if (instruction.is(ops::kManualComputation)) return inline_manual(index);
    LocalCall local = local_call(source_, instruction);
    for (Value& operand : instruction.operands) operand = rewriter_.mapped(operand);
    for (const StartOperand& start : local.starts)
      instruction.operands.push_back(start_value(start));
    instruction.attributes = std::move(local.attributes);
    const std::vector<TensorType> operand_types = rewriter_.result().operand_types(instruction);
    std::vector<TensorType> inferred;
    try {
      inferred = infer_types(*instruction.op, {operand_types, instruction.attributes});
    } catch (const UserError& error) {
      TESSERA_CHECK(false, "%", index, " ", instruction.op->name,
                    " refuses its local operands: ", error.what());
    }
    for (size_t r = 0; r < instruction.results.size(); ++r) {
      TESSERA_CHECK(inferred[r] == local.results[r], "%", index, " ", instruction.op->name,
                    " result ", r, " is locally ", inferred[r], " by infer, but ", local.results[r],
                    " by its sharding ", *instruction.results[r].sharding);
      set_local(instruction.results[r], inferred[r]);
    }
    const Value made = rewriter_.append(std::move(instruction));
    for (size_t r = 0; r < inferred.size(); ++r)
      rewriter_.replace({index, static_cast<int>(r)}, {made.instruction, static_cast<int>(r)});
  }

  // A constraint (a conversion to the same type, with a lying demanded of it) that holds already.
  bool changes_nothing(const Instruction& instruction) const {
    if (!instruction.is(ops::kConvert)) return false;
    const ResultInfo &to = instruction.results[0], &from = source_.info(instruction.operands[0]);
    return to.type == from.type && to.sharding->same_layout(*from.sharding) &&
           to.stored_shape() == from.stored_shape();
  }

  static void set_local(ResultInfo& info, const TensorType& type) {
    if (info.stored_shape() != info.type.shape) info.logical_shape = info.type.shape;
    info.padded_shape.reset();
    info.type = type;
  }

  // Nothing in a region of a manual computation is a shard of a whole either.
  static Graph without_shardings(const Graph& region) {
    Graph bare = with_mapped_regions(region, without_shardings);
    for (Instruction& instruction : bare.instructions)
      for (ResultInfo& result : instruction.results) {
        result.sharding.reset();
        result.logical_shape.reset();
      }
    for (GraphOutput& output : bare.outputs) output.sharding.reset();
    return bare;
  }

  // The body says what each device does, and is local already. Its values are no shards of anything
  // but what the computation gives.
  void inline_manual(int index) {
    const Instruction& instruction = source_.instructions[static_cast<size_t>(index)];
    const Graph& body = *instruction.attributes.get<GraphRef>(Attr::callee);
    std::map<Value, Value> made;
    for (size_t i = 0; i < body.inputs.size(); ++i)
      made[body.inputs[i].value] = rewriter_.mapped(instruction.operands[i]);
    for (size_t i = 0; i < body.instructions.size(); ++i) {
      Instruction copy = body.instructions[i];
      if (copy.is(ops::kParameter)) continue;
      for (Value& operand : copy.operands) operand = made.at(operand);
      for (ResultInfo& result : copy.results) {
        result.sharding.reset();
        result.logical_shape.reset();
      }
      map_regions(copy, without_shardings);
      if (copy.scope.empty()) copy.scope = instruction.scope;
      const Value value = rewriter_.append(std::move(copy));
      for (size_t r = 0; r < body.instructions[i].results.size(); ++r)
        made[{static_cast<int>(i), static_cast<int>(r)}] = {value.instruction, static_cast<int>(r)};
    }
    for (size_t r = 0; r < instruction.results.size(); ++r) {
      const Value value = made.at(body.outputs[r].value);
      ResultInfo& info = rewriter_.result().info(value);
      const TensorType type = info.type;
      const TensorType wanted{type.dtype, instruction.results[r].sharding->local_shape(
                                              instruction.results[r].stored_shape())};
      TESSERA_CHECK(type == wanted, "%", index, " manual_computation: its body gives ", type,
                    " as result ", r, ", which is locally ", wanted);
      if (!info.sharding) {
        info = instruction.results[r];
        set_local(info, type);
      }
      rewriter_.replace({index, static_cast<int>(r)}, value);
    }
  }

  // The op itself says what one device does.
  void partition_one(int index, const FactorRule& rule) {
    const Instruction& instruction = source_.instructions[static_cast<size_t>(index)];
    with_call(source_, instruction, [&](const OpCall& call) {
      Builder& builder = rewriter_.builder();
      builder.set_scope(instruction.scope);
      builder.set_recompute(instruction.recompute);
      LocalPartition context(source_, instruction, rule, call, rewriter_);
      const std::vector<Value> made = instruction.op->partition(context);
      builder.set_scope("");
      builder.set_recompute(false);
      TESSERA_CHECK(made.size() == instruction.results.size(), instruction.op->name,
                    ": partition made ", made.size(), " results of ", instruction.results.size());
      for (size_t r = 0; r < made.size(); ++r) {
        const int result = static_cast<int>(r);
        ResultInfo& info = rewriter_.result().info(made[r]);
        TESSERA_CHECK(info.type == context.local_result_type(result), "%", index, " ",
                      instruction.op->name, ": partition made ", info.type, " as result ", r, " of ",
                      instruction.results[r].type, " ", context.result_sharding(result),
                      ", which is locally ", context.local_result_type(result));
        // A value that is another instruction's shard already keeps what is known of it.
        if (!info.sharding) {
          const TensorType type = info.type;
          info = instruction.results[r];
          set_local(info, type);
        }
        rewriter_.replace({index, result}, made[r]);
      }
    });
  }

  // axis_index(axes) * local_size, made once per pair.
  Value start_value(const StartOperand& start) {
    Builder& builder = rewriter_.builder();
    const auto key = std::pair(start.axes, start.local_size);
    if (const auto known = starts_.find(key); known != starts_.end()) return known->second;
    const TensorType scalar{DType::s64, {}};
    Value value;
    if (start.axes.empty()) {
      value = ops::constant(builder, 0, scalar);
    } else {
      const Value coordinate = ops::axis_index(builder, start.axes);
      const Value size = ops::constant(builder, static_cast<double>(start.local_size), scalar);
      value = ops::multiply(builder, coordinate, size);
    }
    return starts_.emplace(key, value).first->second;
  }

  const Graph& source_;
  GraphRewriter rewriter_;
  std::map<std::pair<AxisList, int64_t>, Value> starts_;
};

}  // namespace

Graph localize(const Graph& graph) { return Localizer(graph).run(); }

}  // namespace tessera
