#include "launch/hlo/input_uses.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>

#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/index_map.h"
#include "core/ops/rng.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// Ops that hand the elements of their operands on, moved but unchanged or nearly so.
bool keeps_elements(const Instruction& instruction, int operand) {
  using namespace ops;
  static const OpDef* const kKeep[] = {&kConvert,   &kReshape,     &kBroadcastInDim, &kTranspose,
                                       &kSlice,     &kReverse,     &kRotate,         &kConcatenate,
                                       &kPad,       &kMaximum,     &kMinimum,        &kAdd,
                                       &kSubtract,  &kOptimizationBarrier};
  if (instruction.is(kSelect)) return operand > 0;
  if (instruction.is(kClamp)) return operand == 1;
  if (instruction.is(kDynamicSlice) || instruction.is(kGather)) return operand == 0;
  if (instruction.op->name == "reshard" || instruction.op->name == "sharding_constraint") return true;
  return std::any_of(std::begin(kKeep), std::end(kKeep),
                     [&](const OpDef* op) { return instruction.is(*op); });
}

bool mixes_bits(const Instruction& instruction) {
  const std::string_view name = instruction.op->name;
  return instruction.is(ops::kRngBitGenerator) || name == "xor" || name.starts_with("shift_left") ||
         name.starts_with("shift_right") || name == "bitcast_convert";
}

bool is_root_of(const Graph& graph, const Instruction& instruction) {
  return (instruction.is(ops::kSqrt) || instruction.is(ops::kRsqrt) || instruction.is(ops::kLog)) &&
         is_float(graph.type(instruction.operands[0]).dtype);
}

bool is_constant(const Graph& graph, Value value) {
  const Instruction& instruction = graph.at(value);
  if (instruction.is(ops::kConstant)) return true;
  return (instruction.is(ops::kBroadcastInDim) || instruction.is(ops::kConvert)) &&
         is_constant(graph, instruction.operands[0]);
}

// Floats that become multiples of themselves.
bool scales(const Graph& graph, const Instruction& instruction, int operand) {
  if (!is_float(graph.type(instruction.operands[0]).dtype)) return false;
  if (instruction.is(ops::kDivide)) return operand == 0;
  return instruction.is(ops::kMultiply) &&
         is_constant(graph, instruction.operands[static_cast<size_t>(1 - operand)]);
}

// The extent along which `value` counts, where it is an iota, spread or converted; else none.
std::optional<int64_t> iota_extent(const Graph& graph, Value value) {
  while (true) {
    const Instruction& instruction = graph.at(value);
    if (instruction.is(ops::kIota))
      return graph.type(value).shape[static_cast<int>(instruction.attributes.integer(Attr::dimension))];
    const bool is_spread = instruction.is(ops::kConvert) || instruction.is(ops::kReshape) ||
                           instruction.is(ops::kBroadcastInDim) || instruction.is(ops::kTranspose);
    if (!is_spread) return std::nullopt;
    value = instruction.operands[0];
  }
}

// Follows one input to all its uses.
class UseWalk {
 public:
  InputUse run(const Graph& graph, Value input) {
    visit(graph, input, /*component=*/-1);
    return use_;
  }

 private:
  void bound_by(int64_t extent) {
    extent = std::max<int64_t>(extent, 1);
    use_.bound = use_.bound ? std::min(*use_.bound, extent) : extent;
  }

  // `component`: which entry of index vectors the value is; -1: not known.
  void visit(const Graph& graph, Value value, int64_t component) {
    const DType dtype = graph.type(value).dtype;
    if ((!is_integer(dtype) && !is_float(dtype)) || !seen_.insert({&graph, value, component}).second) return;
    for (size_t i = static_cast<size_t>(value.instruction) + 1; i < graph.instructions.size(); ++i) {
      const Instruction& user = graph.instructions[i];
      for (size_t o = 0; o < user.operands.size(); ++o)
        if (user.operands[o] == value) visit_use(graph, static_cast<int>(i), static_cast<int>(o), component);
    }
  }

  void visit_use(const Graph& graph, int index, int operand, int64_t component) {
    const Instruction& user = graph.instructions[static_cast<size_t>(index)];
    if (mixes_bits(user)) use_.is_bits = true;
    if (is_root_of(graph, user)) use_.is_root = true;
    if (has_control_flow(user)) return visit_regions(graph, user, index, operand, component);
    if (user.is(ops::kOptimizationBarrier)) return visit(graph, {index, operand}, component);
    if (user.is(ops::kCompare)) return visit_compare(graph, user, operand);
    visit_positions(graph, user, operand, component);
    if (!keeps_elements(user, operand) && !scales(graph, user, operand)) return;
    if (user.is(ops::kConcatenate)) component = component_in(graph, user, operand, component);
    visit(graph, {index, 0}, component);
  }

  // Index vectors are put together from scalars along their last dim.
  static int64_t component_in(const Graph& graph, const Instruction& concatenate, int operand, int64_t component) {
    const int dim = static_cast<int>(concatenate.attributes.integer(Attr::dimension));
    const auto extent = [&](int number) { return graph.type(concatenate.operands[static_cast<size_t>(number)]).shape[dim]; };
    if (component >= 0 || extent(operand) != 1) return component;
    int64_t before = 0;
    for (int o = 0; o < operand; ++o) before += extent(o);
    return before;
  }

  // A one_hot compares positions with iota.
  void visit_compare(const Graph& graph, const Instruction& compare, int operand) {
    if (!is_integer(graph.type(compare.operands[0]).dtype)) return;
    if (const auto extent = iota_extent(graph, compare.operands[static_cast<size_t>(1 - operand)]))
      bound_by(*extent);
  }

  void visit_regions(const Graph& graph, const Instruction& user, int index, int operand, int64_t component) {
    // The first operand of a case says which branch.
    const int first = user.is(ops::kCase) ? 1 : 0;
    if (operand < first) return bound_by(static_cast<int64_t>(control_regions(user).size()));
    for (const Region& region : control_regions(user))
      visit(*region.graph, region.graph->inputs[static_cast<size_t>(operand - first)].value, component);
    // What a loop carries comes out again.
    if (user.is(ops::kWhile)) visit(graph, {index, operand}, component);
  }

  // Where the value says which elements are meant.
  void visit_positions(const Graph& graph, const Instruction& user, int operand, int64_t component) {
    const auto shape = [&](int number) { return graph.type(user.operands[static_cast<size_t>(number)]).shape; };
    if (user.is(ops::kDynamicSlice) && operand > 0) {
      const int dim = operand - 1;
      bound_by(shape(0)[dim] - user.attributes.ints(Attr::slice_sizes)[static_cast<size_t>(dim)] + 1);
    } else if (user.is(ops::kDynamicUpdateSlice) && operand > 1) {
      bound_by(shape(0)[operand - 2] - shape(1)[operand - 2] + 1);
    } else if (user.is(ops::kGather) && operand == 1) {
      with_call(graph, user, [&](const OpCall& call) { bound_by_map(ops::gather_map(call), component); });
    } else if (user.is(ops::kScatter)) {
      with_call(graph, user, [&](const OpCall& call) {
        if (operand == ops::scatter_inputs(call)) bound_by_map(ops::scatter_map(call), component);
      });
    }
  }

  void bound_by_map(const ops::IndexMap& map, int64_t component) {
    for (int d = 0; d < map.operand.rank(); ++d) {
      const ops::IndexMap::Dim& dim = map.dims[static_cast<size_t>(d)];
      if (dim.component >= 0 && (component < 0 || component == dim.component))
        bound_by(map.operand[d] - dim.size + 1);
    }
  }

  InputUse use_;
  std::set<std::tuple<const Graph*, Value, int64_t>> seen_;
};

}  // namespace

std::vector<InputUse> input_uses(const Graph& graph) {
  std::vector<InputUse> uses;
  for (const GraphInput& input : graph.inputs) uses.push_back(UseWalk().run(graph, input.value));
  return uses;
}

}  // namespace tessera
