#include <set>

#include "core/ir/regions.h"
#include "core/ops/elementwise.h"
#include "core/ops/op_list.h"
#include "tests/partitioner/random_program_writer.h"

namespace tessera::testing {

namespace {

// Programs of ops that are not meant to be partitioned, or that the program's writer makes itself.
bool is_left_out(const OpDef& op) {
  static const std::set<std::string_view> kOut = {"parameter", "fusion", "manual_computation",
                                                  "resize_padding", "mask_padding"};
  if (op.communicates || op.device_dependent || op.has_state || !op.samples) return true;
  const auto names_axes = [](Attr key) { return key == Attr::axes || key == Attr::sharding; };
  return kOut.count(op.name) > 0 ||
         std::any_of(op.attributes.begin(), op.attributes.end(), names_axes);
}

DType widened(DType type) { return type == DType::f32 ? DType::f64 : type; }

Attributes widened(const Attributes& attributes);

// f32 becomes f64 throughout, so that results do not depend on the order of additions.
Graph widened(Graph graph) {
  for (Instruction& instruction : graph.instructions) {
    instruction.attributes = widened(instruction.attributes);
    for (ResultInfo& result : instruction.results) result.type.dtype = widened(result.type.dtype);
  }
  return graph;
}

Attributes widened(const Attributes& attributes) {
  Attributes wide;
  for (const auto& [key, value] : attributes.entries()) {
    if (const auto* type = std::get_if<DType>(&value)) {
      wide.set(key, widened(*type));
    } else if (const auto* graph = std::get_if<GraphRef>(&value)) {
      wide.set(key, GraphRef(std::make_shared<const Graph>(widened(**graph))));
    } else if (const auto* graphs = std::get_if<Graphs>(&value)) {
      Graphs all;
      for (const GraphRef& one : *graphs)
        all.push_back(std::make_shared<const Graph>(widened(*one)));
      wide.set(key, std::move(all));
    } else {
      wide.set(key, value);
    }
  }
  return wide;
}

}  // namespace

// An op of the op table as its samples have it: on values of the program where types agree, else on
// new inputs.
void ProgramWriter::add_sample() {
  static const std::vector<const OpDef*> kOps = [] {
    std::vector<const OpDef*> ops;
    for (const OpDef* op : all_ops())
      if (!is_left_out(*op)) ops.push_back(op);
    return ops;
  }();
  const OpDef& op = *kOps[draw(kOps.size())];
  const bool is_control = op.name == "while" || op.name == "case" || op.name == "call";
  if (is_control && !options_.control) return;
  const std::vector<OpSample> samples = op.samples();
  const OpSample& sample = samples[draw(samples.size())];
  Attributes attributes = widened(sample.attributes);
  std::vector<TensorType> types;
  bool is_narrow = false;
  for (const TensorType& type : sample.operands) {
    types.push_back({widened(type.dtype), type.shape});
    if (type.shape.elements() > 4096) return;
    is_narrow = is_narrow || (is_float(types.back().dtype) && types.back().dtype != DType::f64);
  }
  try {
    const std::vector<TensorType> results = infer_types(op, {types, attributes});
    for (const TensorType& type : results) {
      if (type.shape.elements() > 8192) return;
      is_narrow = is_narrow || (is_float(type.dtype) && type.dtype != DType::f64);
    }
    // Nor is a sum in another order the same in its last bit.
    if (op.name == "bitcast_convert" && is_float(types[0].dtype)) return;
    // Sums in few digits depend on their order, and addends in few digits do not make up the value.
    if (is_narrow && (types.size() > 1 || !op.elementwise)) return;
  } catch (const std::exception&) {
    return;  // does not exist in f64
  }
  if (depth_ > 0) return;  // regions get no new inputs
  std::vector<Value> operands;
  for (size_t o = 0; o < types.size(); ++o) {
    Value operand;
    const bool has_range = o < sample.ranges.size();
    if (!has_range && types[o].dtype == DType::f64 && chance(2))
      for (Value candidate : reals_)
        if (b_.type(candidate) == types[o]) operand = candidate;
    if (!operand.valid()) {
      std::pair<double, double> range = has_range ? sample.ranges[o] : std::pair(-1.0, 1.0);
      // Out-of-range indices too.
      if (!is_float(types[o].dtype) && types[o].dtype != DType::pred && has_range && chance(3) &&
          range.first == 0)
        range = {-2, range.second + 3};
      if (types[o].dtype == DType::pred) range = {0, 1};
      operand = add_input(types[o], range);
    }
    operands.push_back(operand);
  }
  Instruction holder;  // regions are for the mesh of their graph
  holder.attributes = attributes;
  map_regions(holder, [&](Graph region) {
    region.mesh = mesh_;
    return region;
  });
  attributes = std::move(holder.attributes);
  const Value made = b_.emit(op, operands, attributes);
  const size_t results = graph_.at(made).results.size();
  for (size_t r = 0; r < results; ++r) {
    const Value result{made.instruction, static_cast<int>(r)};
    if (b_.dtype(result) == DType::c64) continue;
    keep(b_.dtype(result) == DType::f64 ? result : ops::convert(b_, result, DType::f64));
  }
}

}  // namespace tessera::testing
