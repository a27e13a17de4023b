#include "core/passes/algebraic.h"

#include <optional>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/contraction.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

// Rewrites one instruction after the other; sees operands already simplified, in the new graph.
class Simplifier {
 public:
  explicit Simplifier(const Graph& graph)
      : source_(graph), rewriter_(graph), uses_(graph.instructions.size(), 0) {
    for (const Instruction& instruction : graph.instructions)
      for (Value operand : instruction.operands) ++uses_[operand.instruction];
    for (const GraphOutput& output : graph.outputs) ++uses_[output.value.instruction];
  }

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      index_ = static_cast<int>(i);
      if (const std::optional<Value> simpler = simplify(source_.instructions[i]))
        rewriter_.replace({index_, 0}, *simpler);
      else
        rewriter_.copy(index_);
    }
    return rewriter_.finish();
  }

 private:
  Graph& made() { return rewriter_.result(); }
  Value operand(const Instruction& instruction, int index) { return rewriter_.mapped(instruction.operands[index]); }

  // Dropping an instruction must not drop what was said about its result.
  bool is_anonymous(const Instruction& instruction) const {
    const ResultInfo& info = instruction.results[0];
    return info.name.empty() && info.logical_axes.empty() && !info.sharding;
  }

  std::optional<Value> simplify(const Instruction& instruction) {
    if (instruction.is(ops::kConvert)) return conversion(instruction);
    if (const std::optional<Value> sum = sum_with_slice(instruction)) return sum;
    if (instruction.results.size() != 1 || !is_anonymous(instruction)) return std::nullopt;
    if (instruction.is(ops::kAdd) || instruction.is(ops::kMultiply)) return commutative_identity(instruction);
    if (instruction.is(ops::kSubtract) || instruction.is(ops::kDivide)) return right_identity(instruction);
    if (instruction.is(ops::kNegate)) return double_negation(instruction);
    if (instruction.is(ops::kReshape) || instruction.is(ops::kTranspose) || instruction.is(ops::kSlice))
      return movement(instruction);
    return std::nullopt;
  }

  // The number that fills `value`, seen through broadcasts.
  std::optional<double> filled_with(Value value) {
    const Instruction& instruction = made().at(value);
    if (instruction.is(ops::kBroadcastInDim)) return filled_with(instruction.operands[0]);
    if (!instruction.is(ops::kConstant)) return std::nullopt;
    if (instruction.attributes.has(Attr::scalar)) return instruction.attributes.number(Attr::scalar);
    const HostTensor& tensor = *instruction.attributes.get<ConstTensor>(Attr::value);
    if (tensor.elements() == 1 && tensor.dtype() != DType::c64) return tensor.get_real(0);
    return std::nullopt;
  }

  std::optional<Value> commutative_identity(const Instruction& instruction) {
    const double neutral = instruction.is(ops::kAdd) ? 0 : 1;
    if (filled_with(operand(instruction, 1)) == neutral) return operand(instruction, 0);
    if (filled_with(operand(instruction, 0)) == neutral) return operand(instruction, 1);
    return std::nullopt;
  }

  // A tensor of zeros with one slice set is added: only that slice changes.
  std::optional<Value> sum_with_slice(const Instruction& instruction) {
    if (!instruction.is(ops::kAdd)) return std::nullopt;
    for (const int side : {1, 0}) {
      const Value slice = operand(instruction, side), whole = operand(instruction, 1 - side);
      if (!made().at(slice).is(ops::kDynamicUpdateSlice)) continue;
      Instruction update = made().at(slice);
      const ResultInfo& info = update.results[0];
      if (uses_[instruction.operands[side].instruction] != 1 || !info.name.empty() || info.sharding ||
          filled_with(update.operands[0]) != 0.0 || filled_with(whole) == 0.0)
        continue;
      Builder& b = rewriter_.builder();
      b.set_scope(instruction.scope);
      b.set_recompute(instruction.recompute);
      const std::vector<Value> starts(update.operands.begin() + 2, update.operands.end());
      const Shape& shape = b.shape(update.operands[1]);
      const Value old = ops::dynamic_slice(b, whole, starts, Ints(shape.begin(), shape.end()));
      update.operands[1] = ops::add(b, old, update.operands[1]);
      update.operands[0] = whole;
      update.results[0] = instruction.results[0];
      update.scope = instruction.scope;
      update.recompute = instruction.recompute;
      return rewriter_.append(std::move(update));
    }
    return std::nullopt;
  }

  std::optional<Value> right_identity(const Instruction& instruction) {
    const double neutral = instruction.is(ops::kSubtract) ? 0 : 1;
    if (filled_with(operand(instruction, 1)) == neutral) return operand(instruction, 0);
    return std::nullopt;
  }

  std::optional<Value> double_negation(const Instruction& instruction) {
    const Instruction& inner = made().at(operand(instruction, 0));
    if (inner.is(ops::kNegate)) return inner.operands[0];
    return std::nullopt;
  }

  std::optional<Value> movement(const Instruction& instruction) {
    const Value from = operand(instruction, 0);
    const bool same_type = made().type(from) == instruction.results[0].type;
    if (instruction.is(ops::kTranspose)) {
      Ints order = instruction.attributes.ints(Attr::dimensions);
      const Instruction& inner = made().at(from);
      if (inner.is(ops::kTranspose) && anonymous_value(from)) {
        const Ints& first = inner.attributes.ints(Attr::dimensions);
        for (int64_t& dim : order) dim = first[dim];
        return is_identity(order) ? inner.operands[0] : transposed(inner.operands[0], order);
      }
      return is_identity(order) ? std::optional(from) : std::nullopt;
    }
    if (same_type) return from;
    const Instruction& inner = made().at(from);
    if (instruction.is(ops::kReshape) && inner.is(ops::kReshape) && anonymous_value(from)) {
      const Value origin = inner.operands[0];
      if (made().type(origin) == instruction.results[0].type) return origin;
      rewriter_.builder().set_scope(instruction.scope);
      rewriter_.builder().set_recompute(instruction.recompute);
      return ops::reshape(rewriter_.builder(), origin, instruction.results[0].type.shape);
    }
    return std::nullopt;
  }

  bool anonymous_value(Value value) {
    const ResultInfo& info = made().info(value);
    return info.name.empty() && info.logical_axes.empty() && !info.sharding;
  }

  Value transposed(Value from, const Ints& order) {
    rewriter_.builder().set_scope(source_.instructions[index_].scope);
    rewriter_.builder().set_recompute(source_.instructions[index_].recompute);
    return ops::transpose(rewriter_.builder(), from, order);
  }

  static bool is_identity(const Ints& order) {
    for (size_t i = 0; i < order.size(); ++i)
      if (order[i] != static_cast<int64_t>(i)) return false;
    return true;
  }

  std::optional<Value> conversion(const Instruction& instruction) {
    const Value from = operand(instruction, 0);
    const DType target = instruction.results[0].type.dtype;
    if (made().type(from).dtype == target && is_anonymous(instruction)) return from;
    const Instruction& inner = made().at(from);
    // To a wider type and back: nothing was lost on the way.
    if (inner.is(ops::kConvert) && is_anonymous(instruction) && is_exact_detour(inner, target)) return inner.operands[0];
    const bool one_use = uses_[instruction.operands[0].instruction] == 1;
    const bool widens = is_float(target) && size_of(target) > size_of(made().type(from).dtype);
    if (!inner.is(ops::kDotGeneral) || !one_use || !widens || !anonymous_value(from)) return std::nullopt;
    Instruction wide = inner;
    wide.attributes.set(Attr::dtype, target);
    wide.results[0] = instruction.results[0];
    return rewriter_.append(std::move(wide));
  }

  bool is_exact_detour(const Instruction& widening, DType target) {
    const DType first = made().type(widening.operands[0]).dtype, wide = widening.results[0].type.dtype;
    return first == target && (first == DType::bf16 || first == DType::f16) &&
           (wide == DType::f32 || wide == DType::f64);
  }

  const Graph& source_;
  GraphRewriter rewriter_;
  std::vector<int> uses_;  // of an instruction's results; an output is one
  int index_ = 0;
};

}  // namespace

Graph simplify_algebra(const Graph& graph) {
  return with_regions(graph, [](const Graph& source) { return Simplifier(source).run(); });
}

}  // namespace tessera
