#include "core/autodiff/joint.h"

#include <map>

#include "core/ir/regions.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/structure.h"

namespace tessera {

std::vector<bool> depends_on_inputs(const Graph& graph, const std::vector<bool>& inputs) {
  std::vector<bool> depends(graph.instructions.size(), false);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i]) depends[static_cast<size_t>(graph.inputs[i].value.instruction)] = true;
  for (size_t i = 0; i < graph.instructions.size(); ++i)
    for (Value operand : graph.instructions[i].operands)
      if (depends[static_cast<size_t>(operand.instruction)] && is_float(graph.type(operand).dtype))
        depends[i] = true;
  return depends;
}

Joint differentiate(const Graph& region, const std::vector<int>& outputs,
                    const std::vector<int>& wrt, const AutodiffOptions& options) {
  Joint joint;
  joint.graph = region;
  joint.forward_size = static_cast<int>(region.instructions.size());
  Builder builder(joint.graph);
  std::vector<Value> results, inputs;
  for (int output : outputs) {
    const Value value = region.outputs[static_cast<size_t>(output)].value;
    results.push_back(value);
    joint.cotangents.push_back(
        builder.input(InputKind::data, cat("d", output), region.type(value)));
  }
  joint.graph.inputs.resize(region.inputs.size());
  for (int input : wrt) inputs.push_back(region.inputs[static_cast<size_t>(input)].value);
  joint.gradients = vector_jacobian(builder, results, joint.cotangents, inputs, options);
  return joint;
}

namespace {

class Splitter {
 public:
  Splitter(const Joint& joint, RematPolicy policy, const std::vector<bool>& at_hand, bool is_stacked)
      : joint_(joint),
        source_(joint.graph),
        policy_(policy),
        is_stacked_(is_stacked),
        builder_(result_.backward) {
    result_.backward.name = cat(source_.name, ".backward");
    result_.backward.mesh = source_.mesh;
    for (size_t i = 0; i < source_.inputs.size(); ++i)
      if (at_hand[i]) input_of_[source_.inputs[i].value.instruction] = static_cast<int>(i);
  }

  // Residuals become inputs, and inputs come first: so they are found before anything is written.
  SplitJoint run() {
    for (Value gradient : joint_.gradients)
      if (gradient.valid()) find_residuals(gradient);
    for (const Residual& residual : result_.residuals)
      made_[residual.value] = add_input(cat("r", made_.size()), residual.value);
    for (Value cotangent : joint_.cotangents)
      made_[cotangent] = add_input(source_.info(cotangent).name, cotangent);
    for (size_t i = 0; i < source_.instructions.size(); ++i)
      if (needed_.count(static_cast<int>(i))) write(static_cast<int>(i));
    for (size_t g = 0; g < joint_.gradients.size(); ++g)
      if (joint_.gradients[g].valid()) builder_.output(made_.at(joint_.gradients[g]), cat("g", g));
    return std::move(result_);
  }

 private:
  Value add_input(std::string name, Value value) {
    const ResultInfo& info = source_.info(value);
    return builder_.input(InputKind::data, std::move(name), info.type, info.logical_axes);
  }

  // Constants and their broadcasts.
  bool is_free(int i) const {
    const Instruction& it = source_.instructions[static_cast<size_t>(i)];
    if (it.op->has_state) return false;
    if (it.operands.empty()) return true;
    return it.is(ops::kBroadcastInDim) && is_free(it.operands[0].instruction);
  }

  // The weights of this turn.
  bool is_slice_at_hand(int i) const {
    const Instruction& it = source_.instructions[static_cast<size_t>(i)];
    if (it.is(ops::kReshape)) return is_slice_at_hand(it.operands[0].instruction);
    return it.is(ops::kDynamicSlice) && input_of_.count(it.operands[0].instruction) > 0;
  }

  bool is_residual(Value value) const {
    const int i = value.instruction;
    if (i >= joint_.forward_size || is_free(i)) return false;
    const Instruction& it = source_.at(value);
    if (is_stacked_ && is_slice_at_hand(i)) return false;
    if (it.op->has_state || policy_ == RematPolicy::none) return true;
    return policy_ == RematPolicy::dots && it.op->multiplies_matrices;
  }

  void find_residuals(Value root) {
    std::vector<Value> open{root};
    while (!open.empty()) {
      const Value value = open.back();
      open.pop_back();
      if (is_residual(value)) {
        if (!seen_.insert({value, true}).second) continue;
        const auto input = input_of_.find(value.instruction);
        result_.residuals.push_back({value, input == input_of_.end() ? -1 : input->second});
        continue;
      }
      if (!needed_.insert({value.instruction, true}).second) continue;
      for (Value operand : source_.at(value).operands) open.push_back(operand);
    }
  }

  void write(int i) {
    Instruction copy = source_.instructions[static_cast<size_t>(i)];
    if (copy.op->has_state) return;  // a cotangent
    for (Value& operand : copy.operands) operand = made_.at(operand);
    copy.recompute = copy.recompute || (i < joint_.forward_size && !is_free(i));
    if (i < joint_.forward_size)
      for (ResultInfo& result : copy.results) result.name.clear();
    const int made = static_cast<int>(result_.backward.instructions.size());
    for (int r = 0; r < static_cast<int>(copy.results.size()); ++r)
      made_.try_emplace({i, r}, Value{made, r});
    result_.backward.instructions.push_back(std::move(copy));
  }

  const Joint& joint_;
  const Graph& source_;
  RematPolicy policy_;
  bool is_stacked_;
  SplitJoint result_;
  Builder builder_;
  std::map<int, int> input_of_;  // parameter -> number of the input, where it is at hand
  std::map<Value, bool> seen_;
  std::map<int, bool> needed_;  // instructions of the backward graph
  std::map<Value, Value> made_;
};

}  // namespace

SplitJoint split_joint(const Joint& joint, RematPolicy policy) {
  return Splitter(joint, policy, std::vector<bool>(joint.graph.inputs.size(), true), false).run();
}

SplitJoint split_joint(const Joint& joint, RematPolicy policy, const std::vector<bool>& at_hand) {
  return Splitter(joint, policy, at_hand, true).run();
}

Graph forward_of(const Joint& joint, const std::vector<Residual>& residuals) {
  Graph forward = joint.graph;
  forward.instructions.resize(static_cast<size_t>(joint.forward_size));
  for (const Residual& residual : residuals)
    if (residual.input < 0) {
      const std::string name = cat("residual", forward.outputs.size());
      forward.outputs.push_back({residual.value, name, -1, {}});
    }
  return forward;
}

}  // namespace tessera
