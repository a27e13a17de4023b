// The gradient of reduce, operand by operand: by the kind that combines it, or, where the region
// chooses one of two elements as that of argmax does, to the element that was chosen in the end.
#include <numeric>

#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce_call.h"
#include "core/ops/reduce_region.h"
#include "core/ops/scan.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// `value` of the reduced shape, repeated along `dims` to that of the operand.
Value spread(Builder& b, Value value, const Ints& reduced, const Shape& shape) {
  if (reduced.empty()) return value;
  Ints dims;
  for (int64_t d = 0; d < shape.rank(); ++d)
    if (std::find(reduced.begin(), reduced.end(), d) == reduced.end()) dims.push_back(d);
  return broadcast_in_dim(b, value, shape, dims);
}

// ---- By a kind ----------------------------------------------------------------------------------

// Elements that share the extreme share the cotangent; none may, where it is the initial value.
Value extreme_gradient(Builder& b, Value x, Value y, Value dy, const Ints& dims, bool has_init) {
  const Shape shape = b.shape(x);
  const Value is_extreme = compare(b, x, spread(b, y, dims, shape), CompareDirection::eq);
  const Value mask = convert(b, is_extreme, b.dtype(x));
  Value count = reduce(b, mask, dims);
  if (has_init) count = maximum(b, count, constant_like(b, count, 1));
  return multiply(b, mask, spread(b, divide(b, dy, count), dims, shape));
}

// Of each element along `dim` the product of all others: no division, as elements may be 0.
Value product_of_others(Builder& b, Value x, int64_t dim) {
  return multiply(b, scan(b, x, dim, ReduceKind::product, {false, true}),
                  scan(b, x, dim, ReduceKind::product, {true, true}));
}

// The product over several dims is that over the last one, then over the one before, ...; back
// through them in turn.
Value product_gradient(Builder& b, Value x, Value dy, Ints dims) {
  std::sort(dims.begin(), dims.end());
  std::vector<Value> stages{x};
  for (size_t i = dims.size(); i-- > 1;)
    stages.push_back(reduce(b, stages.back(), {dims[i]}, ReduceKind::product));
  for (int64_t dim : dims) {
    const Value stage = stages.back();
    stages.pop_back();
    const Shape shape = b.shape(stage);
    dy = multiply(b, spread(b, dy, {dim}, shape), product_of_others(b, stage, dim));
  }
  return dy;
}

// Cotangents of operand `k` and its initial value.
class OperandGradient {
 public:
  OperandGradient(GradContext& c, int k, int count)
      : c_(c),
        b_(c.builder()),
        k_(k),
        init_(c.operand_count() > count ? count + k : -1),
        dims_(c.attributes().ints(Attr::dimensions)) {}

  struct Pair {
    Value x, init;
  };
  Pair by_kind(ReduceKind kind) {
    Pair made;
    if (kind == ReduceKind::sum) {
      if (wants_x()) made.x = spread(b_, dy(), dims_, shape());
      if (wants_init()) made.init = reduce_all(b_, dy());
    } else if (kind == ReduceKind::product) {
      Value dx = dy();
      if (init_ >= 0) dx = multiply(b_, dx, broadcast_scalar(b_, c_.operand(init_), b_.shape(dx)));
      if (wants_x()) made.x = product_gradient(b_, c_.operand(k_), dx, dims_);
      if (wants_init())
        made.init = reduce_all(
            b_, multiply(b_, dy(), reduce(b_, c_.operand(k_), dims_, ReduceKind::product)));
    } else {
      require(!wants_init(), "reduce: ", name_of(kind), " has no gradient in its initial value, ",
              c_.operand_type(k_));
      if (wants_x())
        made.x = extreme_gradient(b_, c_.operand(k_), c_.result(k_), dy(), dims_, init_ >= 0);
    }
    return made;
  }

  // To the element at position `winner` (in row-major order of the reduced dims), or, where that is
  // -1, to the initial value.
  Pair to_winner(Value winner, Value positions) {
    Pair made;
    if (wants_x()) {
      const Value is_winner =
          compare(b_, positions, spread(b_, winner, dims_, shape()), CompareDirection::eq);
      const Value wide = spread(b_, dy(), dims_, shape());
      made.x = select(b_, is_winner, wide, zeros_like(b_, wide));
    }
    if (wants_init()) {
      const Value is_init =
          compare(b_, winner, constant_like(b_, winner, -1), CompareDirection::eq);
      made.init = reduce_all(b_, select(b_, is_init, dy(), zeros_like(b_, dy())));
    }
    return made;
  }

  bool wants_x() const { return c_.needs_gradient(k_); }
  bool wants_init() const { return init_ >= 0 && c_.needs_gradient(init_); }

 private:
  Value dy() { return c_.cotangent(k_); }
  Shape shape() const { return c_.operand_type(k_).shape; }

  GradContext& c_;
  Builder& b_;
  int k_, init_;
  Ints dims_;
};

// ---- By a choice --------------------------------------------------------------------------------

// The pred by which output `k` of a combiner is one of its two sides; whether it is the accumulator
// where the pred is true.
struct Choice {
  Value pred;
  bool takes_accumulator = true;
};
std::optional<Choice> as_choice(const Graph& region, size_t k) {
  const size_t count = region.outputs.size();
  const Instruction& made = region.at(region.outputs[k].value);
  if (!made.is(kSelect)) return std::nullopt;
  const Value accumulator = region.inputs[k].value, element = region.inputs[count + k].value;
  if (made.operands[1] == accumulator && made.operands[2] == element)
    return Choice{made.operands[0], true};
  if (made.operands[1] == element && made.operands[2] == accumulator)
    return Choice{made.operands[0], false};
  return std::nullopt;
}

// A region of N values as one of N + 1, the last being the position of what is chosen.
GraphRef with_position(const GraphRef& region, const Choice& choice) {
  auto chosen = std::make_shared<Graph>(*region);
  Builder(*chosen).output(choice.pred, "is_chosen");
  auto wide = std::make_shared<Graph>();
  wide->name = cat(region->name, "_with_position");
  Builder b(*wide);
  const size_t count = region->outputs.size();
  std::vector<Value> both;
  Value position[2];
  for (size_t side = 0; side < 2; ++side) {
    for (size_t i = 0; i < count; ++i)
      both.push_back(b.input(InputKind::data, cat("x", side, "_", i),
                             region->type(region->inputs[side * count + i].value)));
    position[side] = b.input(InputKind::data, cat("position", side), {DType::s64, {}});
  }
  const std::vector<Value> combined = call(b, chosen, both);
  for (size_t i = 0; i < count; ++i) b.output(combined[i], cat("y", i));
  b.output(select(b, combined[count], position[choice.takes_accumulator ? 0 : 1],
                  position[choice.takes_accumulator ? 1 : 0]),
           "position");
  return wide;
}

// Row-major positions within the reduced dims.
Value positions_in(Builder& b, const Shape& shape, const Ints& dims) {
  Value positions = constant(b, 0, {DType::s64, shape});
  int64_t step = 1;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    if (std::find(dims.begin(), dims.end(), d) == dims.end()) continue;
    const Value along = iota(b, {DType::s64, shape}, d);
    positions =
        add(b, positions, multiply(b, along, constant_like(b, along, static_cast<double>(step))));
    step *= shape[d];
  }
  return positions;
}

struct Winner {
  Value position, positions;
};
Winner winner_of(GradContext& c, const GraphRef& region, const Choice& choice) {
  Builder& b = c.builder();
  const Ints& dims = c.attributes().ints(Attr::dimensions);
  const size_t count = region->outputs.size();
  std::vector<Value> xs, inits;
  for (size_t i = 0; i < count; ++i) {
    xs.push_back(c.operand(static_cast<int>(i)));
    inits.push_back(c.operand(static_cast<int>(count + i)));
  }
  const Value positions = positions_in(b, b.shape(xs[0]), dims);
  xs.push_back(positions);
  inits.push_back(constant(b, -1, {DType::s64, {}}));
  return {reduce(b, xs, inits, dims, with_position(region, choice)).back(), positions};
}

}  // namespace

std::vector<Value> grad_reduce(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  std::vector<TensorType> types;
  for (int i = 0; i < c.operand_count(); ++i) types.push_back(c.operand_type(i));
  const OpCall call{types, c.attributes()};
  const size_t count = reduced_count(call);
  for (size_t k = 0; k < count; ++k) {
    OperandGradient gradient(c, static_cast<int>(k), static_cast<int>(count));
    if (!c.has_cotangent(static_cast<int>(k)) || (!gradient.wants_x() && !gradient.wants_init()))
      continue;
    OperandGradient::Pair made;
    if (const auto kind = known_kind(call)) {
      made = gradient.by_kind(*kind);
    } else {
      const auto& region = call.attributes.get<GraphRef>(Attr::combiner);
      const auto of_output = as_reduce_kind(*region, k);
      const auto choice = as_choice(*region, k);
      require(of_output || choice, "reduce: output ", k, " of the region \"", region->name,
              "\" has no gradient over ", types_text(types),
              ": it neither adds, multiplies nor takes the larger or smaller of its two sides, nor "
              "selects one of them");
      if (of_output) {
        made = gradient.by_kind(*of_output);
      } else {
        const Winner winner = winner_of(c, region, *choice);
        made = gradient.to_winner(winner.position, winner.positions);
      }
    }
    cotangents[k] = made.x;
    if (gradient.wants_init()) cotangents[count + k] = made.init;
  }
  return cotangents;
}

}  // namespace tessera::ops
