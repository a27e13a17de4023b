// The gradient of a manual computation; see region_gradient.h and varying.h.
//
// Operand cut by manual axes: its cotangent is cut alike. Operand replicated over a manual axis:
// the sum over the axis of what the coordinates contribute (by `vary`). A result that no manual
// axis cuts has equal values on all coordinates; where that cannot be seen from its varying axes,
// the result counts as their mean.
//
// Residuals that are no inputs leave the forward computation as results with a new first dim over
// the axes that they vary over.
#include <algorithm>

#include "core/autodiff/joint.h"
#include "core/autodiff/region_gradient.h"
#include "core/autodiff/varying.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

AxisList cut_axes(const Sharding& sharding, const AxisList& manual) {
  AxisList axes;
  for (const DimSharding& dim : ops::manual_part(sharding, manual).dims)
    axes.insert(axes.end(), dim.axes.begin(), dim.axes.end());
  std::ranges::sort(axes);
  return canonical(axes);
}

class ManualGradient : public RegionGradient {
 public:
  ManualGradient(Instruction& manual, const std::vector<bool>& active,
                 const AutodiffOptions& options)
      : own_results_(manual.results.size()),
        axes_(manual.attributes.get<AxisList>(Attr::axes)),
        in_(manual.attributes.get<Shardings>(Attr::in_shardings)),
        out_(manual.attributes.get<Shardings>(Attr::out_shardings)),
        wrt_(numbers_of(active)) {
    std::vector<AxisList> inputs;
    for (size_t i = 0; i < in_.size(); ++i) {
      if (active[i] && in_[i].is_partial())
        throw_user_error("manual_computation", manual.scope.empty() ? "" : " in ", manual.scope,
                         ": operand ", i, " is unreduced (", in_[i],
                         "): a gradient through it is not defined; reduce it first");
      inputs.push_back(cut_axes(in_[i], axes_));
      if (in_[i].is_partial()) inputs.back() = axes_;
    }
    VaryingGraph callee =
        with_explicit_varying(*manual.attributes.get<GraphRef>(Attr::callee), inputs);
    outputs_ = active_outputs(callee.graph, active);
    scale_outputs(callee);
    joint_ = differentiate(callee.graph, outputs_, wrt_, options);
    SplitJoint split = split_joint(joint_, options.remat);
    residuals_ = std::move(split.residuals);
    backward_ = std::move(split.backward);
    for (const Residual& residual : residuals_)
      if (residual.input < 0) save(residual, callee.axes);
    extend(manual);
  }

  std::vector<Value> emit(GradContext& c) override {
    std::vector<Value> placed(static_cast<size_t>(c.operand_count()));
    std::vector<Value> operands;
    Shardings in, out;
    int next = static_cast<int>(own_results_);
    for (const Residual& residual : residuals_) {
      operands.push_back(residual.input >= 0 ? c.operand(residual.input) : c.result(next));
      in.push_back(residual.input >= 0
                       ? in_[static_cast<size_t>(residual.input)]
                       : saved_[static_cast<size_t>(next - static_cast<int>(own_results_))]);
      next += residual.input < 0;
    }
    for (int output : outputs_) {
      operands.push_back(c.cotangent(output));
      in.push_back(out_[static_cast<size_t>(output)].without_partial());
    }
    for (size_t w = 0; w < wrt_.size(); ++w)
      if (joint_.gradients[w].valid()) out.push_back(in_[static_cast<size_t>(wrt_[w])]);
    if (out.empty()) return placed;
    const std::vector<Value> made =
        ops::manual_computation(c.builder(), backward_callee(), std::move(operands), axes_, in, out);
    for (size_t w = 0, g = 0; w < wrt_.size(); ++w)
      if (joint_.gradients[w].valid()) placed[static_cast<size_t>(wrt_[w])] = made[g++];
    return placed;
  }

 private:
  // Where coordinates must hold the same result but may hold it each for itself, each one's share
  // in it is a fraction.
  void scale_outputs(const VaryingGraph& callee) {
    for (int output : outputs_) {
      const Sharding& sharding = out_[static_cast<size_t>(output)];
      const Value value = callee.graph.outputs[static_cast<size_t>(output)].value;
      AxisList extra = without(callee.axes[static_cast<size_t>(value.instruction)],
                               cut_axes(sharding, axes_));
      extra = without(extra, sharding.partial);
      shares_.push_back(1.0 / static_cast<double>(size_of(extra)));
    }
  }

  void save(const Residual& residual, const std::vector<AxisList>& axes) {
    const auto i = static_cast<size_t>(residual.value.instruction);
    const TensorType& type = joint_.graph.type(residual.value);
    Sharding sharding(joint_.graph.mesh, type.rank() + 1, true);
    sharding.dims[0].axes = axes[i];
    sharding.dims[0].open = false;
    saved_.push_back(sharding);
  }

  static Shape with_one(const Shape& shape) {
    Shape wide{1};
    for (int64_t size : shape) wide.push_back(size);
    return wide;
  }

  void extend(Instruction& manual) const {
    Graph forward = forward_of(joint_, residuals_);
    Builder b(forward);
    std::vector<TensorType> added;
    for (size_t s = 0; s < saved_.size(); ++s) {
      const Value value = forward.outputs[own_results_ + s].value;
      const TensorType type = forward.type(value);
      const Value wide = ops::reshape(b, value, with_one(type.shape));
      forward.outputs[own_results_ + s].value = wide;
      TensorType outer{type.dtype, with_one(type.shape)};
      outer.shape[0] = size_of(saved_[s].dims[0].axes);
      added.push_back(outer);
    }
    Shardings out = out_;
    out.insert(out.end(), saved_.begin(), saved_.end());
    manual.attributes.set(Attr::callee, std::make_shared<const Graph>(without_vary(forward)));
    manual.attributes.set(Attr::out_shardings, std::move(out));
    extend_results(manual, added);
  }

  GraphRef backward_callee() const {
    Graph graph;
    graph.name = backward_.name;
    graph.mesh = joint_.graph.mesh;
    Builder b(graph);
    std::vector<Value> given;
    for (const Residual& residual : residuals_) {
      const TensorType& type = joint_.graph.type(residual.value);
      if (residual.input >= 0) {
        given.push_back(b.input(InputKind::data, cat("x", given.size()), type));
        continue;
      }
      const Value wide = b.input(InputKind::data, cat("x", given.size()),
                                 {type.dtype, with_one(type.shape)});
      given.push_back(wide);
    }
    for (int output : outputs_)
      given.push_back(b.input(InputKind::data, cat("d", output),
                              joint_.graph.type(joint_.graph.outputs[static_cast<size_t>(output)].value)));
    for (size_t r = 0; r < residuals_.size(); ++r)
      if (residuals_[r].input < 0)
        given[r] = ops::reshape(b, given[r], joint_.graph.type(residuals_[r].value).shape);
    for (size_t o = 0; o < outputs_.size(); ++o)
      if (shares_[o] != 1) {
        Value& cotangent = given[residuals_.size() + o];
        cotangent = ops::scale(b, cotangent, shares_[o]);
      }
    const std::vector<Value> made = splice(b, backward_, given);
    for (size_t g = 0; g < made.size(); ++g) b.output(made[g], cat("g", g));
    return std::make_shared<const Graph>(without_vary(graph));
  }

  size_t own_results_;
  AxisList axes_;
  Shardings in_, out_;
  std::vector<int> wrt_, outputs_;
  std::vector<double> shares_;  // per output
  Joint joint_;
  std::vector<Residual> residuals_;
  Graph backward_;
  Shardings saved_;
};

// An exchange that states its result's shape.
Value stated(GradContext& c, const OpDef& op, Value x, Attributes attributes, const Shape& shape) {
  attributes.set(Attr::shape, Ints(shape.begin(), shape.end()));
  return c.builder().emit(op, {x}, std::move(attributes));
}

}  // namespace

std::unique_ptr<RegionGradient> prepare_manual_gradient(Instruction& manual,
                                                        const std::vector<bool>& active,
                                                        const AutodiffOptions& options) {
  return std::make_unique<ManualGradient>(manual, active, options);
}

bool has_exchange_gradient(const Instruction& it) {
  if (it.is(ops::kShift)) return true;
  if (!it.attributes.has(Attr::shape)) return false;
  if (it.is(ops::kAllReduce))
    return it.attributes.get<ReduceKind>(Attr::reduce_kind) == ReduceKind::sum;
  if (it.is(ops::kReduceScatter) || it.is(ops::kReplicatedToPartial))
    return it.attributes.get<ReduceKind>(Attr::reduce_kind) == ReduceKind::sum;
  return it.is(ops::kAllGather) || it.is(ops::kAllToAll) || it.is(ops::kCollectivePermute) ||
         it.is(ops::kAllSlice);
}

std::vector<Value> exchange_gradient(const Instruction& it, GradContext& c) {
  const Attributes& attributes = it.attributes;
  const AxisList axes = attributes.get<AxisList>(Attr::axes);
  const Shape& shape = c.operand_type(0).shape;
  const Value dy = c.cotangent(0);
  // The result is invariant, so is its cotangent: `vary`, which is nothing to do.
  if (it.is(ops::kAllReduce)) return {c.builder().emit(kVary, {dy}, {{Attr::axes, axes}})};
  if (it.is(ops::kReplicatedToPartial)) return {stated(c, *it.op, dy, attributes, shape)};
  if (it.is(ops::kShift)) {
    Attributes back = attributes;
    back.set(Attr::shift, -attributes.integer(Attr::shift));
    return {c.builder().emit(ops::kShift, {dy}, std::move(back))};
  }
  if (it.is(ops::kAllGather))
    return {stated(c, ops::kAllSlice, dy,
                   {{Attr::dimension, attributes.integer(Attr::dimension)}, {Attr::axes, axes}},
                   shape)};
  if (it.is(ops::kReduceScatter))
    return {stated(c, ops::kAllGather, dy,
                   {{Attr::dimension, attributes.integer(Attr::dimension)}, {Attr::axes, axes}},
                   shape)};
  if (it.is(ops::kAllToAll))
    return {stated(c, ops::kAllToAll, dy,
                   {{Attr::split_dimension, attributes.integer(Attr::concat_dimension)},
                    {Attr::concat_dimension, attributes.integer(Attr::split_dimension)},
                    {Attr::axes, axes}},
                   shape)};
  if (it.is(ops::kCollectivePermute) && attributes.has(Attr::sources)) {
    const Ints& sources = attributes.ints(Attr::sources);
    Ints back(sources.size(), -1);
    for (size_t target = 0; target < sources.size(); ++target)
      if (sources[target] >= 0)
        back[static_cast<size_t>(sources[target])] = static_cast<int64_t>(target);
    return {stated(c, ops::kCollectivePermute, dy,
                   {{Attr::axes, axes}, {Attr::sources, std::move(back)}}, shape)};
  }
  if (it.is(ops::kCollectivePermute))
    return {stated(c, ops::kCollectivePermute, dy,
                   {{Attr::axes, attributes.get<AxisList>(Attr::target_axes)},
                    {Attr::target_axes, axes}},
                   shape)};
  // all_slice: each device's own block among zeros. The operand varies, so `vary` sums the blocks.
  const auto dim = static_cast<int>(attributes.integer(Attr::dimension));
  Builder& b = c.builder();
  const int64_t block = c.result_type(0).shape[dim];
  const Value start = ops::scale(b, ops::axis_index(b, axes), static_cast<double>(block));
  const Value zeros = ops::constant(b, 0.0, c.operand_type(0));
  return {ops::dynamic_update_slice_dim(b, zeros, dy, dim, start)};
}

}  // namespace tessera
