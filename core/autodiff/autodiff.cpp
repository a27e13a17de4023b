#include "core/autodiff/autodiff.h"

#include <algorithm>
#include <map>

#include "core/autodiff/region_gradient.h"
#include "core/ir/regions.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// Answers which value the backward pass reads where a gradient rule asks for a residual.
class Residuals {
 public:
  Residuals(Builder& builder, RematPolicy policy, int forward_size)
      : builder_(builder), policy_(policy), leaves_block_(static_cast<size_t>(forward_size), false) {
    if (policy_ == RematPolicy::none) return;
    const Graph& graph = builder_.graph();
    for (int i = 0; i < forward_size; ++i) {
      const std::string block = block_of_scope(graph.instructions[i].scope);
      blocks_.push_back(block);
      for (Value operand : graph.instructions[i].operands)
        if (blocks_[operand.instruction] != block) leaves_block_[operand.instruction] = true;
    }
  }

  Value get(Value value) {
    if (is_kept(value)) return value;
    if (const auto found = recomputed_.find(value); found != recomputed_.end()) return found->second;
    return recompute(value);
  }

 private:
  bool is_kept(Value value) const {
    if (policy_ == RematPolicy::none) return true;
    if (value.instruction >= static_cast<int>(blocks_.size())) return true;
    const Instruction& instruction = builder_.graph().at(value);
    if (blocks_[value.instruction].empty() || instruction.op->has_state) return true;
    if (leaves_block_[value.instruction]) return true;  // the next block's input is kept anyway
    return policy_ == RematPolicy::dots && instruction.op->multiplies_matrices;
  }

  Value recompute(Value value) {
    Instruction clone = builder_.graph().at(value);
    for (Value& operand : clone.operands) operand = get(operand);
    clone.recompute = true;
    for (ResultInfo& result : clone.results) result.name.clear();
    Graph& graph = builder_.graph();
    const int made = static_cast<int>(graph.instructions.size());
    const int results = static_cast<int>(clone.results.size());
    graph.instructions.push_back(std::move(clone));
    for (int r = 0; r < results; ++r) recomputed_[{value.instruction, r}] = {made, r};
    return {made, value.result};
  }

  Builder& builder_;
  RematPolicy policy_;
  std::vector<std::string> blocks_;
  std::vector<bool> leaves_block_;
  std::map<Value, Value> recomputed_;
};

class Backward : public GradContext {
 public:
  // `policy` decides over this graph's residuals, the options over those of regions in it.
  Backward(Builder& builder, std::span<const Value> outputs, std::span<const Value> wrt,
           RematPolicy policy, const AutodiffOptions& options)
      : builder_(builder),
        forward_size_(static_cast<int>(builder.graph().instructions.size())),
        residuals_(builder, policy, forward_size_) {
    mark_needed(wrt);
    prepare_regions(outputs, options);
  }

  std::vector<Value> run(std::span<const Value> outputs, std::span<const Value> cotangents,
                         std::span<const Value> wrt) {
    int last = -1;
    for (size_t i = 0; i < outputs.size(); ++i) {
      addends_[outputs[i]].push_back(cotangents[i]);
      last = std::max(last, outputs[i].instruction);
    }
    const std::string outer = builder_.scope();
    for (current_ = last; current_ >= 0; --current_)
      if (needed_[current_]) visit();
    builder_.set_scope(outer);
    std::vector<Value> result;
    for (Value value : wrt) result.push_back(total(value));
    return result;
  }

  void group_all(std::span<const Value> primals, std::span<const Value> gradients) {
    for (size_t i = 0; i < primals.size(); ++i) group(primals[i], gradients[i]);
  }

  // ---- GradContext ----
  Builder& builder() override { return builder_; }
  const Attributes& attributes() const override { return attributes_; }
  int operand_count() const override { return static_cast<int>(operands_.size()); }
  Value operand(int index) override { return residuals_.get(operands_[index]); }
  Value result(int index) override { return residuals_.get({current_, index}); }
  const TensorType& operand_type(int index) const override { return operand_types_[index]; }
  const TensorType& result_type(int index) const override { return result_types_[index]; }
  bool has_cotangent(int result) const override { return addends_.count({current_, result}) > 0; }
  Value cotangent(int result) override {
    const Value sum = total({current_, result});
    return sum.valid() ? sum : ops::constant(builder_, 0.0, result_types_[result]);
  }
  bool needs_gradient(int operand) const override { return needed_[operands_[operand].instruction]; }
  DType gradient_dtype(int operand) const override { return gradient_dtype_of(operands_[operand]); }

 private:
  // A gradient inherits the sharding of what it is the gradient of, however that was given.
  void group(Value primal, Value gradient) {
    if (!gradient.valid() || gradient == primal) return;
    Graph& graph = builder_.graph();
    if (next_group_ < 0)
      for (const Instruction& instruction : graph.instructions)
        for (const ResultInfo& info : instruction.results)
          for (const ShardingGroup& known : info.groups)
            next_group_ = std::max(next_group_, known.id + 1);
    const ShardingGroup pair{std::max<int64_t>(next_group_, 0), ShardingGroup::Kind::like};
    next_group_ = pair.id + 1;
    graph.info(primal).groups.push_back(pair);
    graph.info(gradient).groups.push_back(pair);
  }

  // An instruction is needed when its results depend on something in `wrt`.
  void mark_needed(std::span<const Value> wrt) {
    needed_.assign(static_cast<size_t>(forward_size_), false);
    for (Value value : wrt) needed_[value.instruction] = true;
    for (int i = 0; i < forward_size_; ++i)
      for (Value operand : builder_.graph().instructions[i].operands)
        if (needed_[operand.instruction]) needed_[i] = true;
  }

  // Control flow on the way from `wrt` to the outputs gives its residuals as further results.
  void prepare_regions(std::span<const Value> outputs, const AutodiffOptions& options) {
    std::vector<bool> reaches(static_cast<size_t>(forward_size_), false);
    for (Value output : outputs) reaches[static_cast<size_t>(output.instruction)] = true;
    for (int i = forward_size_ - 1; i >= 0; --i) {
      const Instruction& instruction = builder_.graph().instructions[static_cast<size_t>(i)];
      if (!reaches[static_cast<size_t>(i)]) continue;
      for (Value operand : instruction.operands)
        reaches[static_cast<size_t>(operand.instruction)] = true;
      if (!needed_[static_cast<size_t>(i)] || !has_control_flow(instruction)) continue;
      std::vector<bool> active;
      for (Value operand : instruction.operands)
        active.push_back(needed_[static_cast<size_t>(operand.instruction)] &&
                         is_float(builder_.dtype(operand)));
      if (std::find(active.begin(), active.end(), true) != active.end())
        regions_[i] = prepare_region_gradient(builder_, i, active, options);
    }
  }

  std::vector<Value> apply_rule(const Instruction& instruction) {
    if (instruction.op->grad) return instruction.op->grad(*this);
    if (const auto found = regions_.find(current_); found != regions_.end())
      return found->second->emit(*this);
    if (has_exchange_gradient(instruction)) return exchange_gradient(instruction, *this);
    throw_user_error("op ", instruction.op->name, instruction.scope.empty() ? "" : " in ",
                     instruction.scope,
                     " has no gradient, but the loss depends on a trained value through it");
  }

  void visit() {
    // Copies: the rule appends to the graph, which moves its instructions.
    const Instruction instruction = builder_.graph().instructions[current_];
    bool reached = false;
    for (int r = 0; r < static_cast<int>(instruction.results.size()); ++r) reached |= has_cotangent(r);
    if (!reached || instruction.op->has_state) return;
    attributes_ = instruction.attributes;
    operands_ = instruction.operands;
    operand_types_ = builder_.graph().operand_types(instruction);
    result_types_ = Graph::result_types(instruction);
    bool any_operand = false;
    for (int o = 0; o < operand_count(); ++o) any_operand |= needs_gradient(o);
    if (!any_operand) return;
    builder_.set_scope(instruction.scope.empty() ? "backward" : cat(instruction.scope, "/backward"));
    const std::vector<Value> cotangents = apply_rule(instruction);
    TESSERA_CHECK(static_cast<int>(cotangents.size()) == operand_count(), instruction.op->name,
                  ": gradient rule gives ", cotangents.size(), " cotangents for ", operand_count(), " operands");
    for (int o = 0; o < operand_count(); ++o)
      if (cotangents[o].valid() && needs_gradient(o)) accumulate(operands_[o], cotangents[o]);
  }

  // A weight that is narrowed for computing gets its gradient in the dtype it is kept in: products
  // and sums give their accumulators, and nothing is rounded before the reduction over devices.
  DType gradient_dtype_of(Value value) const {
    const Instruction& producer = builder_.graph().at(value);
    const DType own = builder_.dtype(value);
    if (!producer.is(ops::kConvert) || !builder_.graph().at(producer.operands[0]).op->has_state) return own;
    const DType kept = builder_.dtype(producer.operands[0]);
    return is_float(kept) && size_of(kept) > size_of(own) ? kept : own;
  }

  void accumulate(Value primal, Value cotangent) {
    const TensorType& type = builder_.type(cotangent);
    TESSERA_CHECK(type.shape == builder_.shape(primal) &&
                      (type.dtype == builder_.dtype(primal) || type.dtype == gradient_dtype_of(primal)),
                  "cotangent of ", describe(builder_.graph(), primal), " has type ", type, ", not ",
                  builder_.type(primal));
    const std::vector<std::string> axes = builder_.graph().info(primal).logical_axes;
    if (builder_.graph().info(cotangent).logical_axes.empty()) builder_.annotate(cotangent, axes);
    addends_[primal].push_back(cotangent);
  }

  // The sum of all cotangents of a value, in the order in which they came; invalid when none did.
  Value total(Value value) {
    const auto found = addends_.find(value);
    if (found == addends_.end()) return {};
    std::vector<Value>& addends = found->second;
    if (addends.size() > 1)
      for (Value& addend : addends) addend = ops::convert(builder_, addend, gradient_dtype_of(value));
    for (size_t i = 1; i < addends.size(); ++i) {
      const Value sum = ops::add(builder_, addends[0], addends[i]);
      builder_.annotate(sum, std::vector(builder_.graph().info(value).logical_axes));
      addends[0] = sum;
    }
    addends.resize(1);
    return addends[0];
  }

  Builder& builder_;
  int forward_size_;
  Residuals residuals_;
  std::vector<bool> needed_;
  std::map<int, std::unique_ptr<RegionGradient>> regions_;  // by instruction
  std::map<Value, std::vector<Value>> addends_;
  int current_ = -1;
  int64_t next_group_ = -1;
  Attributes attributes_;
  std::vector<Value> operands_;
  std::vector<TensorType> operand_types_, result_types_;
};

}  // namespace

std::string block_of_scope(const std::string& scope) {
  if (!scope.starts_with("block.")) return "";
  return scope.substr(0, scope.find('/'));
}

std::vector<Value> gradients(Builder& builder, Value loss, std::span<const Value> wrt,
                             const AutodiffOptions& options) {
  TESSERA_CHECK(builder.shape(loss).rank() == 0, "the loss must be a scalar, not ",
                builder.type(loss));
  Backward backward(builder, {&loss, 1}, wrt, options.remat, options);
  const Value one = ops::constant(builder, 1.0, builder.type(loss));
  std::vector<Value> result = backward.run({&loss, 1}, {&one, 1}, wrt);
  backward.group_all(wrt, result);
  return result;
}

std::vector<Value> vector_jacobian(Builder& builder, std::span<const Value> outputs,
                                   std::span<const Value> cotangents, std::span<const Value> wrt,
                                   const AutodiffOptions& options) {
  return Backward(builder, outputs, wrt, RematPolicy::none, options).run(outputs, cotangents, wrt);
}

}  // namespace tessera
