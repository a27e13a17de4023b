// The gradient of a counted loop; see region_gradient.h.
#include "core/autodiff/joint.h"
#include "core/autodiff/region_gradient.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

TensorType stack_type(const TensorType& type, int64_t turns) {
  TensorType stack{type.dtype, {turns}};
  for (int64_t size : type.shape) stack.shape.push_back(size);
  return stack;
}

// A stack's dims have the names of the stacked value's, the turn none.
std::vector<std::string> stack_axes(const std::vector<std::string>& axes) {
  if (axes.empty()) return {};
  std::vector<std::string> stacked{""};
  stacked.insert(stacked.end(), axes.begin(), axes.end());
  return stacked;
}

GraphRef count_condition(const MeshPtr& mesh, const std::vector<TensorType>& carried,
                         CompareDirection direction, int64_t bound) {
  Graph graph;
  graph.name = "counts";
  graph.mesh = mesh;
  Builder b(graph);
  std::vector<Value> inputs;
  for (size_t i = 0; i < carried.size(); ++i)
    inputs.push_back(b.input(InputKind::data, cat("x", i), carried[i]));
  b.output(ops::compare(b, inputs[0],
                        ops::constant(b, static_cast<double>(bound), {DType::s32, {}}), direction),
           "goes_on");
  return std::make_shared<const Graph>(std::move(graph));
}

class WhileGradient : public RegionGradient {
 public:
  WhileGradient(Instruction& loop, const std::vector<bool>& active, const AutodiffOptions& options)
      : own_results_(loop.results.size()), turns_(loop.attributes.integer(Attr::trip_count)) {
    if (turns_ == 0) return;
    const Graph& body = *loop.attributes.get<GraphRef>(Attr::body);
    mesh_ = body.mesh;
    find_active(body, active);
    joint_ = differentiate(body, wrt_, wrt_, options);
    std::vector<bool> at_hand;
    for (size_t i = 0; i < body.inputs.size(); ++i)
      at_hand.push_back(is_invariant(body, static_cast<int>(i)));
    SplitJoint split = split_joint(joint_, options.remat, at_hand);
    residuals_ = std::move(split.residuals);
    backward_ = std::move(split.backward);
    for (const Residual& residual : residuals_)
      if (residual.input < 0) {
        saved_.push_back(stack_type(joint_.graph.type(residual.value), turns_));
        saved_axes_.push_back(stack_axes(joint_.graph.info(residual.value).logical_axes));
      }
    if (saved_.empty()) return;
    // The loop and its stacks become one call, so that the stacks can stand before the loop.
    Graph wrapper = stacking_loop(loop);
    const GraphRef callee = std::make_shared<const Graph>(std::move(wrapper));
    loop.op = &ops::kCall;
    loop.attributes = {{Attr::callee, callee}};
    extend_results(loop, saved_);
  }

  std::vector<Value> emit(GradContext& c) override {
    std::vector<Value> placed(static_cast<size_t>(c.operand_count()));
    if (turns_ == 0) {
      for (int i = 0; i < c.operand_count(); ++i)
        if (c.has_cotangent(i)) placed[static_cast<size_t>(i)] = c.cotangent(i);
      return placed;
    }
    Builder& b = c.builder();
    std::vector<Value> carried{
        ops::constant(b, static_cast<double>(turns_ - 1), {DType::s32, {}})};
    for (int j : wrt_) carried.push_back(c.cotangent(j));
    int next = static_cast<int>(own_results_);
    for (const Residual& residual : residuals_)
      carried.push_back(residual.input >= 0 ? c.operand(residual.input) : c.result(next++));
    std::vector<TensorType> types;
    for (Value value : carried) types.push_back(b.type(value));
    const std::vector<Value> made =
        ops::while_loop(b, carried, count_condition(mesh_, types, CompareDirection::ge, 0),
                        backward_body(types), turns_);
    for (size_t w = 0; w < wrt_.size(); ++w) placed[static_cast<size_t>(wrt_[w])] = made[w + 1];
    return placed;
  }

 private:
  static bool is_invariant(const Graph& body, int input) {
    return body.outputs[static_cast<size_t>(input)].value ==
           body.inputs[static_cast<size_t>(input)].value;
  }

  // What an active operand reaches in one turn is active in the next.
  void find_active(const Graph& body, std::vector<bool> active) {
    for (bool grew = true; grew;) {
      grew = false;
      for (int output : active_outputs(body, active)) {
        if (active[static_cast<size_t>(output)]) continue;
        active[static_cast<size_t>(output)] = true;
        grew = true;
      }
    }
    wrt_ = numbers_of(active);
  }

  // (carried...) -> carried..., stacks...
  Graph stacking_loop(const Instruction& loop) const {
    Graph graph;
    graph.name = cat(joint_.graph.name, ".stacking");
    graph.mesh = mesh_;
    Builder b(graph);
    std::vector<Value> init;
    for (size_t i = 0; i < own_results_; ++i)
      init.push_back(b.input(InputKind::data, cat("x", i), loop.results[i].type));
    init.push_back(ops::constant(b, 0.0, {DType::s32, {}}));
    for (size_t s = 0; s < saved_.size(); ++s)
      init.push_back(b.annotate(ops::constant(b, 0.0, saved_[s]), saved_axes_[s]));
    const std::vector<Value> made = ops::while_loop(
        b, init, extended_condition(*loop.attributes.get<GraphRef>(Attr::condition)),
        stacking_body(), turns_);
    for (size_t i = 0; i < made.size(); ++i)
      if (i != own_results_) b.output(made[i], cat("y", i));
    return graph;
  }

  // The same, with the counter and the stacks as further inputs.
  GraphRef extended_condition(const Graph& condition) const {
    Graph graph = condition;
    Builder b(graph);
    b.input(InputKind::data, "turn", {DType::s32, {}});
    for (const TensorType& type : saved_) b.input(InputKind::data, "stack", type);
    return std::make_shared<const Graph>(std::move(graph));
  }

  GraphRef stacking_body() const {
    Graph graph = forward_of(joint_, {});
    Builder b(graph);
    const Value turn = b.input(InputKind::data, "turn", {DType::s32, {}});
    std::vector<Value> stacks;
    for (size_t s = 0; s < saved_.size(); ++s)
      stacks.push_back(b.input(InputKind::data, cat("stack", s), saved_[s], saved_axes_[s]));
    b.output(ops::add_scalar(b, turn, 1), "turn");
    size_t s = 0;
    for (const Residual& residual : residuals_) {
      if (residual.input >= 0) continue;
      Shape slot = saved_[s].shape;
      slot[0] = 1;
      const Value update = b.annotate(ops::reshape(b, residual.value, slot), saved_axes_[s]);
      b.output(ops::dynamic_update_slice_dim(b, stacks[s], update, 0, turn), cat("stack", s));
      ++s;
    }
    return std::make_shared<const Graph>(std::move(graph));
  }

  // (turn, cotangents..., residuals and stacks...) -> the same, one turn earlier.
  GraphRef backward_body(const std::vector<TensorType>& types) const {
    Graph graph;
    graph.name = backward_.name;
    graph.mesh = mesh_;
    Builder b(graph);
    std::vector<Value> inputs;
    for (size_t i = 0; i < types.size(); ++i)
      inputs.push_back(b.input(InputKind::data, cat("x", i), types[i]));
    std::vector<Value> given;
    for (size_t r = 0; r < residuals_.size(); ++r) {
      const Value held = inputs[1 + wrt_.size() + r];
      given.push_back(residuals_[r].input >= 0 ? held : read_stack(b, held, inputs[0], r));
    }
    for (size_t w = 0; w < wrt_.size(); ++w) given.push_back(inputs[1 + w]);
    const std::vector<Value> made = splice(b, backward_, given);
    b.output(ops::add_scalar(b, inputs[0], -1), "turn");
    for (size_t w = 0, g = 0; w < wrt_.size(); ++w)
      b.output(joint_.gradients[w].valid() ? made[g++] : ops::zeros_like(b, inputs[1 + w]),
               cat("d", wrt_[w]));
    for (size_t i = 1 + wrt_.size(); i < inputs.size(); ++i) b.output(inputs[i], cat("x", i));
    return std::make_shared<const Graph>(std::move(graph));
  }

  Value read_stack(Builder& b, Value stack, Value turn, size_t residual) const {
    const Value value = residuals_[residual].value;
    const Value slot = ops::dynamic_slice_dim(b, stack, 0, turn, 1);
    return b.annotate(ops::reshape(b, slot, joint_.graph.type(value).shape),
                      joint_.graph.info(value).logical_axes);
  }

  size_t own_results_;
  int64_t turns_;
  MeshPtr mesh_;
  std::vector<int> wrt_;  // carried values with a cotangent
  Joint joint_;
  std::vector<Residual> residuals_;
  Graph backward_;
  std::vector<TensorType> saved_;  // stacks
  std::vector<std::vector<std::string>> saved_axes_;
};

}  // namespace

std::unique_ptr<RegionGradient> prepare_while_gradient(Instruction& loop,
                                                       const std::vector<bool>& active,
                                                       const AutodiffOptions& options) {
  if (!loop.attributes.has(Attr::trip_count))
    throw_user_error("while", loop.scope.empty() ? "" : " in ", loop.scope, " with body \"",
                     loop.attributes.get<GraphRef>(Attr::body)->name,
                     "\": the number of turns is not known, so the loop cannot be differentiated; "
                     "give it a trip_count, or count an s32 from a constant to a constant");
  return std::make_unique<WhileGradient>(loop, active, options);
}

}  // namespace tessera
