#include "core/compile/views.h"

#include <algorithm>

#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// Contiguous iff only dims before the last cut one are of extent 1, and all after it are whole.
std::optional<int64_t> slice_offset(const TensorType& operand, const Attributes& attributes) {
  const Ints& start = attributes.ints(Attr::start_indices);
  const Ints& limit = attributes.ints(Attr::limit_indices);
  const Ints& strides = attributes.ints(Attr::strides);
  int last_cut = -1;
  for (int d = 0; d < operand.rank(); ++d) {
    const auto at = static_cast<size_t>(d);
    if (strides[at] != 1 && limit[at] - start[at] > 1) return std::nullopt;
    if (limit[at] - start[at] != operand.shape[d]) last_cut = d;
  }
  for (int d = 0; d < last_cut; ++d)
    if (limit[static_cast<size_t>(d)] - start[static_cast<size_t>(d)] != 1) return std::nullopt;
  const int64_t bytes = linear_index(start, operand.shape) * size_of(operand.dtype);
  if (bytes % kBufferAlignment != 0) return std::nullopt;
  return bytes;
}

// True where the dims larger than 1 keep their order.
bool keeps_order(const TensorType& operand, const Ints& permutation) {
  int64_t last = -1;
  for (int64_t dim : permutation) {
    if (operand.shape[static_cast<int>(dim)] == 1) continue;
    if (dim < last) return false;
    last = dim;
  }
  return true;
}

}  // namespace

bool is_trivial_collective(const Instruction& instruction) {
  const bool on_axes = (instruction.op->communicates && instruction.attributes.has(Attr::axes)) ||
                       instruction.is(ops::kAllSlice) || instruction.is(ops::kReplicatedToPartial);
  return on_axes && size_of(instruction.attributes.get<AxisList>(Attr::axes)) == 1;
}

std::optional<int64_t> view_offset(const Graph& graph, const Instruction& instruction) {
  if (instruction.operands.empty()) return std::nullopt;
  const TensorType& operand = graph.type(instruction.operands[0]);
  const TensorType& result = instruction.results[0].type;
  if (instruction.is(ops::kReshape) || is_trivial_collective(instruction)) return 0;
  if (instruction.is(ops::kSlice)) return slice_offset(operand, instruction.attributes);
  if (instruction.is(ops::kTranspose) &&
      keeps_order(operand, instruction.attributes.ints(Attr::dimensions)))
    return 0;
  if (instruction.is(ops::kBroadcastInDim) && operand.elements() == result.elements()) return 0;
  if (instruction.is(ops::kConcatenate) && instruction.operands.size() == 1) return 0;
  return std::nullopt;
}

std::vector<int64_t> member_offsets(const Graph& graph, const Instruction& instruction) {
  if (!instruction.is(ops::kConcatenate)) return {};
  const Shape& shape = instruction.results[0].type.shape;
  for (int d = 0; d < static_cast<int>(instruction.attributes.integer(Attr::dimension)); ++d)
    if (shape[d] != 1) return {};
  std::vector<int64_t> offsets;
  int64_t at = 0;
  for (Value operand : instruction.operands) {
    offsets.push_back(at);
    at += graph.type(operand).bytes();
  }
  return offsets;
}

}  // namespace tessera
