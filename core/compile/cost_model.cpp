#include "core/compile/cost_model.h"

#include <algorithm>

#include "core/ops/accumulate.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/gather.h"
#include "core/ops/sharding.h"

namespace tessera {
namespace {

// What is read and written: of slices of a tensor, only these.
int64_t bytes_moved(const Instruction& instruction, const OpCall& call,
                    std::span<const TensorType> results) {
  int64_t bytes = 0;
  for (const TensorType& type : call.operands) bytes += type.bytes();
  for (const TensorType& type : results) bytes += type.bytes();
  const bool reads_slices = instruction.is(ops::kDynamicSlice) || instruction.is(ops::kGather);
  if (reads_slices) return bytes - call.operands[0].bytes() + results[0].bytes();
  // In place: the operand and the result are one tensor, written where the update falls.
  if (instruction.is(ops::kDynamicUpdateSlice))
    return bytes - call.operands[0].bytes() - results[0].bytes() + call.operands[1].bytes();
  return bytes;
}

}  // namespace

double kernel_seconds(const CostModel& model, const Graph& graph, const Instruction& instruction) {
  return with_call(graph, instruction, [&](const OpCall& call) {
    const std::vector<TensorType> results = Graph::result_types(instruction);
    DType widest = results.empty() ? DType::f32 : results[0].dtype;
    for (const TensorType& type : call.operands)
      if (is_float(type.dtype) && size_of(type.dtype) > size_of(widest)) widest = type.dtype;
    // A product's speed is that of its operands: bf16 x bf16 -> f32 runs at the narrow rate.
    const size_t factor = instruction.is(ops::kDotGeneralAdd) ? 1 : 0;
    if (call.operands.size() > factor && is_float(call.operands[factor].dtype))
      widest = call.operands[factor].dtype;
    const double rate = widest == DType::f64  ? model.flops_f64
                        : size_of(widest) < 4 ? model.flops_narrow
                                              : model.flops_f32;
    const double arithmetic = flop_count(*instruction.op, call, results) / rate;
    const double traffic =
        static_cast<double>(bytes_moved(instruction, call, results)) / model.memory_bytes_per_second;
    return std::max(arithmetic, traffic) + model.kernel_seconds;
  });
}

KernelWork kernel_work(const Graph& graph, const Instruction& instruction) {
  return with_call(graph, instruction, [&](const OpCall& call) {
    const std::vector<TensorType> results = Graph::result_types(instruction);
    return KernelWork{flop_count(*instruction.op, call, results), bytes_moved(instruction, call, results)};
  });
}

double wire_bytes(const Graph& graph, const Instruction& instruction) {
  const auto devices = static_cast<double>(size_of(instruction.attributes.get<AxisList>(Attr::axes)));
  const double bytes = static_cast<double>(
      std::max(graph.type(instruction.operands[0]).bytes(), instruction.results[0].type.bytes()));
  const double share = instruction.is(ops::kCollectivePermute) || instruction.is(ops::kShift) ? 1 : (devices - 1) / devices;
  return (instruction.is(ops::kAllReduce) ? 2 : 1) * share * bytes;
}

CollectiveCost collective_cost(const CostModel& model, const Graph& graph,
                               const Instruction& instruction) {
  const AxisList& axes = instruction.attributes.get<AxisList>(Attr::axes);
  CollectiveCost cost;
  for (const AxisRef& ref : axes) {
    const auto axis = static_cast<size_t>(ref.axis);
    if (axis < model.link_of_axis.size()) cost.link = std::max(cost.link, model.link_of_axis[axis]);
  }
  TESSERA_CHECK(cost.link < static_cast<int>(model.links.size()), "link class ", cost.link, " of ",
                model.links.size());
  const LinkClass& link = model.links[static_cast<size_t>(cost.link)];
  cost.seconds = link.latency_seconds + wire_bytes(graph, instruction) / link.bytes_per_second;
  return cost;
}

}  // namespace tessera
