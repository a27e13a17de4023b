#include "partitioner/recognize_rotations.h"

#include <optional>

#include "core/ir/rewriter.h"
#include "core/ops/structure.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

// [start, limit) of `dim`, all of the other dims, one by one.
struct Stretch {
  Value of;
  int64_t start, limit;
};

std::optional<Stretch> stretch_of(const Graph& graph, Value value, int dim) {
  const Instruction& slice = graph.at(value);
  if (!slice.is(ops::kSlice) || !graph.info(value).name.empty()) return std::nullopt;
  const Shape& shape = graph.type(slice.operands[0]).shape;
  const Ints &start = slice.attributes.ints(Attr::start_indices),
             &limit = slice.attributes.ints(Attr::limit_indices),
             &strides = slice.attributes.ints(Attr::strides);
  for (int d = 0; d < shape.rank(); ++d) {
    const auto at = static_cast<size_t>(d);
    if (strides[at] != 1) return std::nullopt;
    if (d != dim && (start[at] != 0 || limit[at] != shape[d])) return std::nullopt;
  }
  const auto at = static_cast<size_t>(dim);
  return Stretch{slice.operands[0], start[at], limit[at]};
}

struct Rotation {
  Value of;
  int64_t places;
};

std::optional<Rotation> rotation_of(const Graph& graph, const Instruction& instruction) {
  if (!instruction.is(ops::kConcatenate) || instruction.operands.size() != 2) return std::nullopt;
  const auto dim = static_cast<int>(instruction.attributes.integer(Attr::dimension));
  const auto back = stretch_of(graph, instruction.operands[0], dim),
             front = stretch_of(graph, instruction.operands[1], dim);
  if (!back || !front || back->of != front->of || front->start != 0 ||
      front->limit != back->start || back->limit != graph.type(back->of).shape[dim])
    return std::nullopt;
  return Rotation{back->of, back->start};
}

Graph recognize(const Graph& graph) {
  std::vector<std::optional<Rotation>> rotations;
  std::vector<int> uses(graph.instructions.size(), 0);
  bool any = false;
  for (const Instruction& instruction : graph.instructions) {
    rotations.push_back(rotation_of(graph, instruction));
    any = any || rotations.back();
    for (Value operand : instruction.operands)
      if (!rotations.back()) ++uses[static_cast<size_t>(operand.instruction)];
  }
  if (!any) return graph;
  for (const GraphOutput& output : graph.outputs)
    ++uses[static_cast<size_t>(output.value.instruction)];
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    // Slices that only rotations used.
    if (instruction.is(ops::kSlice) && uses[i] == 0) continue;
    if (!rotations[i]) {
      rewriter.copy(static_cast<int>(i));
      continue;
    }
    Instruction rotate = instruction;
    rotate.op = &ops::kRotate;
    rotate.operands = {rewriter.mapped(rotations[i]->of)};
    rotate.attributes.set(Attr::shift, rotations[i]->places);
    rewriter.replace({static_cast<int>(i), 0}, rewriter.append(std::move(rotate)));
  }
  return rewriter.finish();
}

}  // namespace

Graph recognize_rotations(const Graph& graph) {
  return with_regions(graph, [](const Graph& each) { return recognize(each); });
}

}  // namespace tessera
