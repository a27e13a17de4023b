#include "core/passes/trip_count.h"

#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// The number of the input that a value is, or -1.
int input_number(const Graph& graph, Value value) {
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    if (graph.inputs[i].value == value) return static_cast<int>(i);
  return -1;
}

CompareDirection flipped(CompareDirection direction) {
  switch (direction) {
    case CompareDirection::lt: return CompareDirection::gt;
    case CompareDirection::gt: return CompareDirection::lt;
    case CompareDirection::le: return CompareDirection::ge;
    case CompareDirection::ge: return CompareDirection::le;
    default: return direction;
  }
}

// Turns of: while (k direction bound) k += step. Nothing where it would not end without wrapping.
std::optional<int64_t> turns(int64_t k, CompareDirection direction, int64_t bound, int64_t step) {
  auto up_to = [](int64_t distance, int64_t step) -> std::optional<int64_t> {
    if (distance <= 0) return 0;
    if (step <= 0) return std::nullopt;
    return (distance + step - 1) / step;
  };
  switch (direction) {
    case CompareDirection::lt: return up_to(bound - k, step);
    case CompareDirection::le: return up_to(bound - k + 1, step);
    case CompareDirection::gt: return up_to(k - bound, -step);
    case CompareDirection::ge: return up_to(k - bound + 1, -step);
    case CompareDirection::eq:
      return k != bound ? std::optional<int64_t>(0) : step != 0 ? std::optional<int64_t>(1) : std::nullopt;
    case CompareDirection::ne:
      if (k == bound) return 0;
      if (step == 0 || (bound - k) % step != 0 || (bound - k) / step < 0) return std::nullopt;
      return (bound - k) / step;
  }
  return std::nullopt;
}

class LoopReader {
 public:
  LoopReader(const Graph& graph, const Instruction& loop)
      : graph_(graph),
        loop_(loop),
        condition_(*loop.attributes.get<GraphRef>(Attr::condition)),
        body_(*loop.attributes.get<GraphRef>(Attr::body)) {}

  std::optional<int64_t> trip_count() const {
    const Instruction& compare = condition_.at(condition_.outputs[0].value);
    if (!compare.is(ops::kCompare)) return std::nullopt;
    const auto direction = compare.attributes.get<CompareDirection>(Attr::direction);
    if (const auto count = read(compare.operands[0], direction, compare.operands[1])) return count;
    return read(compare.operands[1], flipped(direction), compare.operands[0]);
  }

 private:
  std::optional<int64_t> read(Value counter, CompareDirection direction, Value bound) const {
    const int k = input_number(condition_, counter);
    if (k < 0 || is_float(condition_.type(counter).dtype) || condition_.type(counter).rank() != 0)
      return std::nullopt;
    const auto first = known_integer(graph_, loop_.operands[static_cast<size_t>(k)]);
    const auto last = in_loop(condition_, bound);
    const auto step = step_of(k);
    if (!first || !last || !step) return std::nullopt;
    return turns(*first, direction, *last, *step);
  }

  // A constant of a region, or a carried value that never changes and starts as a constant.
  std::optional<int64_t> in_loop(const Graph& region, Value value) const {
    if (const auto known = known_integer(region, value)) return known;
    const int input = input_number(region, value);
    if (input < 0) return std::nullopt;
    const auto i = static_cast<size_t>(input);
    if (body_.outputs[i].value != body_.inputs[i].value) return std::nullopt;
    return known_integer(graph_, loop_.operands[i]);
  }

  std::optional<int64_t> step_of(int k) const {
    const Value input = body_.inputs[static_cast<size_t>(k)].value;
    const Instruction& next = body_.at(body_.outputs[static_cast<size_t>(k)].value);
    if (next.is(ops::kAdd)) {
      if (next.operands[0] == input) return in_loop(body_, next.operands[1]);
      if (next.operands[1] == input) return in_loop(body_, next.operands[0]);
    }
    if (next.is(ops::kSubtract) && next.operands[0] == input)
      if (const auto step = in_loop(body_, next.operands[1])) return -*step;
    return std::nullopt;
  }

  const Graph& graph_;
  const Instruction& loop_;
  const Graph &condition_, &body_;
};

}  // namespace

std::optional<int64_t> known_integer(const Graph& graph, Value value) {
  const Instruction& instruction = graph.at(value);
  const TensorType& type = graph.type(value);
  if (type.elements() != 1 || is_float(type.dtype) || type.dtype == DType::c64) return std::nullopt;
  if (instruction.is(ops::kConvert) || instruction.is(ops::kReshape) ||
      instruction.is(ops::kBroadcastInDim))
    return known_integer(graph, instruction.operands[0]);
  if (!instruction.is(ops::kConstant)) return std::nullopt;
  if (instruction.attributes.has(Attr::scalar))
    return HostTensor::filled(type, instruction.attributes.number(Attr::scalar)).get_int(0);
  return instruction.attributes.get<ConstTensor>(Attr::value)->get_int(0);
}

std::optional<int64_t> trip_count_of(const Graph& graph, const Instruction& loop) {
  if (loop.attributes.has(Attr::trip_count)) return loop.attributes.integer(Attr::trip_count);
  return LoopReader(graph, loop).trip_count();
}

Graph find_trip_counts(const Graph& graph) {
  return with_regions(graph, [](const Graph& source) {
    Graph counted = source;
    for (Instruction& instruction : counted.instructions) {
      if (!instruction.is(ops::kWhile)) continue;
      if (const auto count = trip_count_of(counted, instruction))
        instruction.attributes.set(Attr::trip_count, *count);
    }
    return counted;
  });
}

}  // namespace tessera
