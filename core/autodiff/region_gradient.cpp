#include "core/autodiff/region_gradient.h"

#include "core/autodiff/joint.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/structure.h"
#include "core/passes/trip_count.h"

namespace tessera {

std::vector<int> numbers_of(const std::vector<bool>& flags) {
  std::vector<int> numbers;
  for (size_t i = 0; i < flags.size(); ++i)
    if (flags[i]) numbers.push_back(static_cast<int>(i));
  return numbers;
}

std::vector<int> active_outputs(const Graph& region, const std::vector<bool>& active_inputs) {
  const std::vector<bool> depends = depends_on_inputs(region, active_inputs);
  std::vector<int> outputs;
  for (size_t o = 0; o < region.outputs.size(); ++o) {
    const Value value = region.outputs[o].value;
    if (depends[static_cast<size_t>(value.instruction)] && is_float(region.type(value).dtype))
      outputs.push_back(static_cast<int>(o));
  }
  return outputs;
}

void extend_results(Instruction& instruction, const std::vector<TensorType>& added) {
  for (const TensorType& type : added) {
    instruction.results.emplace_back();
    instruction.results.back().type = type;
  }
}

namespace {

std::vector<TensorType> types_of(const Graph& graph, const std::vector<Residual>& residuals) {
  std::vector<TensorType> types;
  for (const Residual& residual : residuals)
    if (residual.input < 0) types.push_back(graph.type(residual.value));
  return types;
}

// The results of the gradient go back to the operands for which the joint graph has one.
std::vector<Value> place(const std::vector<Value>& made, const std::vector<int>& wrt,
                         const std::vector<Value>& gradients, size_t operands, int shift = 0) {
  std::vector<Value> placed(operands);
  size_t next = 0;
  for (size_t w = 0; w < wrt.size(); ++w)
    if (gradients[w].valid()) placed[static_cast<size_t>(wrt[w] + shift)] = made[next++];
  return placed;
}

// ---- call ---------------------------------------------------------------------------------------

class CallGradient : public RegionGradient {
 public:
  CallGradient(Instruction& call, const std::vector<bool>& active, const AutodiffOptions& options)
      : wrt_(numbers_of(active)), own_results_(call.results.size()) {
    const Graph& callee = *call.attributes.get<GraphRef>(Attr::callee);
    outputs_ = active_outputs(callee, active);
    joint_ = differentiate(callee, outputs_, wrt_, options);
    SplitJoint split = split_joint(joint_, options.remat);
    residuals_ = split.residuals;
    backward_ = std::make_shared<const Graph>(std::move(split.backward));
    call.attributes.set(Attr::callee,
                        std::make_shared<const Graph>(forward_of(joint_, residuals_)));
    extend_results(call, types_of(joint_.graph, residuals_));
  }

  std::vector<Value> emit(GradContext& c) override {
    std::vector<Value> operands;
    int next = static_cast<int>(own_results_);
    for (const Residual& residual : residuals_)
      operands.push_back(residual.input >= 0 ? c.operand(residual.input) : c.result(next++));
    for (int output : outputs_) operands.push_back(c.cotangent(output));
    if (backward_->outputs.empty()) return std::vector<Value>(static_cast<size_t>(c.operand_count()));
    return place(ops::call(c.builder(), backward_, std::move(operands)), wrt_, joint_.gradients,
                 static_cast<size_t>(c.operand_count()));
  }

 private:
  std::vector<int> wrt_, outputs_;
  size_t own_results_;
  Joint joint_;
  std::vector<Residual> residuals_;
  GraphRef backward_;
};

// ---- case ---------------------------------------------------------------------------------------

// Each branch gives the residuals of all branches, zeros in the place of those that are not its own.
class CaseGradient : public RegionGradient {
 public:
  CaseGradient(Instruction& instruction, const std::vector<bool>& active,
               const AutodiffOptions& options)
      : own_results_(instruction.results.size()) {
    const std::vector<bool> inputs(active.begin() + 1, active.end());
    wrt_ = numbers_of(inputs);
    const Graphs branches = instruction.attributes.get<Graphs>(Attr::branches);
    std::vector<bool> reached(own_results_, false);
    for (const GraphRef& branch : branches)
      for (int output : active_outputs(*branch, inputs)) reached[static_cast<size_t>(output)] = true;
    outputs_ = numbers_of(reached);
    for (const GraphRef& branch : branches) {
      joints_.push_back(differentiate(*branch, outputs_, wrt_, options));
      splits_.push_back(split_joint(joints_.back(), options.remat));
      for (const TensorType& type : types_of(joints_.back().graph, splits_.back().residuals))
        saved_.push_back(type);
    }
    instruction.attributes.set(Attr::branches, forward_branches());
    extend_results(instruction, saved_);
    any_gradient_.resize(wrt_.size(), false);
    for (const Joint& joint : joints_)
      for (size_t w = 0; w < wrt_.size(); ++w)
        if (joint.gradients[w].valid()) any_gradient_[w] = true;
  }

  std::vector<Value> emit(GradContext& c) override {
    std::vector<Value> operands;
    for (int i = 1; i < c.operand_count(); ++i) operands.push_back(c.operand(i));
    for (size_t s = 0; s < saved_.size(); ++s)
      operands.push_back(c.result(static_cast<int>(own_results_ + s)));
    for (int output : outputs_) operands.push_back(c.cotangent(output));
    std::vector<Value> placed(static_cast<size_t>(c.operand_count()));
    std::vector<TensorType> types;
    for (Value operand : operands) types.push_back(c.builder().type(operand));
    Graphs branches;
    for (size_t b = 0; b < joints_.size(); ++b) branches.push_back(backward_branch(b, types));
    if (branches[0]->outputs.empty()) return placed;
    const std::vector<Value> made =
        ops::case_of(c.builder(), c.operand(0), std::move(operands), std::move(branches));
    for (size_t w = 0, next = 0; w < wrt_.size(); ++w)
      if (any_gradient_[w]) placed[static_cast<size_t>(wrt_[w] + 1)] = made[next++];
    return placed;
  }

 private:
  Graphs forward_branches() const {
    Graphs branches;
    size_t first = 0;  // of the branch's own residuals among all
    for (size_t b = 0; b < joints_.size(); ++b) {
      Graph branch = forward_of(joints_[b], splits_[b].residuals);
      const std::vector<GraphOutput> with_own = branch.outputs;
      const size_t own = with_own.size() - own_results_;
      branch.outputs.resize(own_results_);
      Builder builder(branch);
      for (size_t s = 0; s < saved_.size(); ++s) {
        const bool is_own = s >= first && s < first + own;
        builder.output(is_own ? with_own[own_results_ + s - first].value
                              : ops::constant(builder, 0.0, saved_[s]),
                       cat("residual", s));
      }
      first += own;
      branches.push_back(std::make_shared<const Graph>(std::move(branch)));
    }
    return branches;
  }

  // Inputs: the operands, all residuals, the cotangents.
  GraphRef backward_branch(size_t b, const std::vector<TensorType>& types) const {
    Graph branch;
    branch.name = splits_[b].backward.name;
    branch.mesh = splits_[b].backward.mesh;
    Builder builder(branch);
    std::vector<Value> inputs;
    for (size_t i = 0; i < types.size(); ++i)
      inputs.push_back(builder.input(InputKind::data, cat("x", i), types[i]));
    const size_t operands = types.size() - saved_.size() - outputs_.size();
    size_t next = operands;
    for (size_t before = 0; before < b; ++before)
      next += types_of(joints_[before].graph, splits_[before].residuals).size();
    std::vector<Value> given;
    for (const Residual& residual : splits_[b].residuals)
      given.push_back(residual.input >= 0 ? inputs[static_cast<size_t>(residual.input)]
                                          : inputs[next++]);
    given.insert(given.end(), inputs.end() - static_cast<int64_t>(outputs_.size()), inputs.end());
    const std::vector<Value> made = splice(builder, splits_[b].backward, given);
    for (size_t w = 0, g = 0; w < wrt_.size(); ++w) {
      const bool own = joints_[b].gradients[w].valid();
      if (any_gradient_[w])
        builder.output(own ? made[g] : ops::zeros_like(builder, inputs[static_cast<size_t>(wrt_[w])]),
                       cat("g", w));
      g += own;
    }
    return std::make_shared<const Graph>(std::move(branch));
  }

  size_t own_results_;
  std::vector<int> wrt_, outputs_;  // numbers of branch inputs and outputs
  std::vector<Joint> joints_;
  std::vector<SplitJoint> splits_;
  std::vector<TensorType> saved_;  // residuals of all branches
  std::vector<bool> any_gradient_;
};

}  // namespace

std::unique_ptr<RegionGradient> prepare_call_gradient(Instruction& call,
                                                      const std::vector<bool>& active,
                                                      const AutodiffOptions& options) {
  return std::make_unique<CallGradient>(call, active, options);
}

std::unique_ptr<RegionGradient> prepare_case_gradient(Instruction& instruction,
                                                      const std::vector<bool>& active,
                                                      const AutodiffOptions& options) {
  return std::make_unique<CaseGradient>(instruction, active, options);
}

std::unique_ptr<RegionGradient> prepare_region_gradient(Builder& builder, int instruction,
                                                        const std::vector<bool>& active,
                                                        const AutodiffOptions& options) {
  Instruction& it = builder.graph().instructions[static_cast<size_t>(instruction)];
  if (it.is(ops::kCall)) return prepare_call_gradient(it, active, options);
  if (it.is(ops::kCase)) return prepare_case_gradient(it, active, options);
  if (it.is(ops::kWhile)) {
    if (const auto count = trip_count_of(builder.graph(), it))
      it.attributes.set(Attr::trip_count, *count);
    return prepare_while_gradient(it, active, options);
  }
  if (it.is(ops::kManualComputation)) return prepare_manual_gradient(it, active, options);
  return nullptr;
}

}  // namespace tessera
