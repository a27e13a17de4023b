#include "core/autodiff/varying.h"

#include <algorithm>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "core/runtime/device_exchange.h"

namespace tessera {
namespace {

AxisList united(AxisList a, const AxisList& b) {
  for (AxisRef ref : without(b, a)) a.push_back(ref);
  std::ranges::sort(a);
  return canonical(a);
}

std::vector<TensorType> infer_vary(const OpCall& call) { return {call.operands[0]}; }
void eval_vary(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  y[0] = *x[0];
}
std::vector<Value> grad_vary(GradContext& c) {
  const Value sum = c.builder().emit(
      ops::kAllReduce, {c.cotangent(0)},
      {{Attr::axes, c.attributes().get<AxisList>(Attr::axes)},
       {Attr::reduce_kind, ReduceKind::sum},
       {Attr::shape, Ints(c.result_type(0).shape.begin(), c.result_type(0).shape.end())}});
  return {sum};
}

// The axes over which something inside the regions of an instruction varies by itself.
AxisList born_inside(const Instruction& instruction) {
  AxisList axes;
  for (const Region& region : control_regions(instruction))
    for_each_region(*region.graph, [&](const Graph& graph) {
      for (const Instruction& inner : graph.instructions)
        if (is_exchange(*inner.op)) {
          axes = united(axes, inner.attributes.get<AxisList>(Attr::axes));
          if (inner.attributes.has(Attr::target_axes))
            axes = united(axes, inner.attributes.get<AxisList>(Attr::target_axes));
        }
    });
  return axes;
}

class Varying {
 public:
  // `forced`: what every output is made to vary over (regions whose outputs join others).
  Varying(const Graph& source, const std::vector<AxisList>& inputs, AxisList forced)
      : source_(source), rewriter_(source), inputs_(inputs), forced_(std::move(forced)) {}

  VaryingGraph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) visit(static_cast<int>(i));
    std::vector<Value> outputs;
    for (const GraphOutput& output : source_.outputs)
      outputs.push_back(forced_.empty() ? rewriter_.mapped(output.value)
                                        : varying(rewriter_.mapped(output.value), forced_));
    VaryingGraph result;
    result.graph = rewriter_.finish();
    for (size_t o = 0; o < outputs.size(); ++o) result.graph.outputs[o].value = outputs[o];
    result.axes = std::move(axes_);
    return result;
  }

 private:
  AxisList& axes_of(Value made) { return axes_[static_cast<size_t>(made.instruction)]; }

  // Over which axes all operands must vary, and over which the results then do.
  std::pair<AxisList, AxisList> wanted(const Instruction& instruction, AxisList all) const {
    if (has_control_flow(instruction)) {
      all = united(all, born_inside(instruction));
      return {all, all};
    }
    if (!is_exchange(*instruction.op)) return {all, all};
    AxisList own = instruction.attributes.get<AxisList>(Attr::axes);
    if (instruction.attributes.has(Attr::target_axes))
      own = united(own, instruction.attributes.get<AxisList>(Attr::target_axes));
    all = united(all, own);
    const bool is_whole = instruction.is(ops::kAllReduce) || instruction.is(ops::kAllGather);
    return {all, is_whole ? without(all, own) : all};
  }

  void visit(int index) {
    const Instruction& source = source_.instructions[static_cast<size_t>(index)];
    if (source.op->has_state) {
      note(rewriter_.copy(index), inputs_[static_cast<size_t>(source.attributes.integer(Attr::index))]);
      return;
    }
    Instruction copy = source;
    AxisList all;
    for (Value& operand : copy.operands) {
      operand = rewriter_.mapped(operand);
      all = united(all, axes_of(operand));
    }
    const auto [operand_axes, result_axes] = wanted(source, all);
    for (Value& operand : copy.operands) operand = varying(operand, operand_axes);
    // All inputs of a region vary over the same axes, and so do its outputs.
    map_regions(copy, [&axes = operand_axes](const Graph& region) {
      const std::vector<AxisList> inputs(region.inputs.size(), axes);
      return Varying(region, inputs, axes).run().graph;
    });
    // Their gradients state local shapes, so that nobody takes them for the partitioner's.
    if (is_exchange(*copy.op) && !copy.is(ops::kShift) && !copy.is(ops::kAxisIndex))
      copy.attributes.set(Attr::shape, Ints(copy.results[0].type.shape.begin(),
                                            copy.results[0].type.shape.end()));
    const int results = static_cast<int>(copy.results.size());
    const Value made = rewriter_.append(std::move(copy));
    note(made, result_axes);
    for (int r = 0; r < results; ++r) rewriter_.replace({index, r}, {made.instruction, r});
  }

  void note(Value made, AxisList axes) {
    axes_.resize(static_cast<size_t>(made.instruction) + 1);
    axes_of(made) = std::move(axes);
  }

  Value varying(Value made, const AxisList& axes) {
    const AxisList missing = without(axes, axes_of(made));
    if (missing.empty() || !is_float(rewriter_.result().type(made).dtype)) return made;
    Instruction vary;
    vary.op = &kVary;
    vary.attributes = {{Attr::axes, missing}};
    vary.operands = {made};
    vary.results.emplace_back();
    vary.results[0].type = rewriter_.result().type(made);
    const AxisList all = united(axes_of(made), axes);
    const Value value = rewriter_.append(std::move(vary));
    note(value, all);
    return value;
  }

  const Graph& source_;
  GraphRewriter rewriter_;
  const std::vector<AxisList>& inputs_;
  AxisList forced_;
  std::vector<AxisList> axes_;  // per instruction of the new graph
};

}  // namespace

const OpDef kVary{.name = "vary",
                  .attributes = {Attr::axes},
                  .infer = infer_vary,
                  .eval = eval_vary,
                  .grad = grad_vary,
                  .elementwise = true};

VaryingGraph with_explicit_varying(const Graph& callee, const std::vector<AxisList>& inputs) {
  return Varying(callee, inputs, {}).run();
}

Graph without_vary(const Graph& graph) {
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const int index = static_cast<int>(i);
    const Instruction& instruction = graph.instructions[i];
    if (instruction.is(kVary)) {
      rewriter.replace({index, 0}, rewriter.mapped(instruction.operands[0]));
      continue;
    }
    const Value made = rewriter.copy(index);
    map_regions(rewriter.result().at(made), without_vary);
  }
  return rewriter.finish();
}

}  // namespace tessera
