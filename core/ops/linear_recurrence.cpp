// linear_recurrence: h[i] = a[i] h[i - 1] + b[i]. Composition of such steps is associative:
// (a2, b2) after (a1, b1) is (a2 a1, a2 b1 + b2), which is what is scanned over shards.
#include "core/ops/elementwise.h"
#include "core/ops/scan.h"
#include "core/ops/scan_partition.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

int dim_of(const Attributes& attributes) {
  return static_cast<int>(attributes.integer(Attr::dimension));
}

std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count("linear_recurrence", call, 2);
  const TensorType &a = call.operands[0], &b = call.operands[1];
  require(a == b && is_float(a.dtype),
          "linear_recurrence: operands must be floats of one type, got ", a, " and ", b);
  const int dim = dim_of(call.attributes);
  require(dim >= 0 && dim < a.rank(), "linear_recurrence: dimension ", dim, " of ", a);
  return {a};
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const std::vector<double> a = reals_of(*x[0]), b = reals_of(*x[1]);
  std::vector<double> h(a.size());
  const Shape& shape = x[0]->shape();
  const int dim = dim_of(call.attributes);
  const bool is_reverse = call.attributes.flag(Attr::is_reverse);
  const std::vector<int64_t> strides = shape.strides();
  Shape lines = shape;
  lines[dim] = std::min<int64_t>(1, shape[dim]);
  walk(lines, strides, strides, [&](int64_t first, int64_t) {
    double state = 0;
    for (int64_t i = 0; i < shape[dim]; ++i) {
      const int64_t at = first + (is_reverse ? shape[dim] - 1 - i : i) * strides[dim];
      h[at] = state = a[at] * state + b[at];
    }
  });
  set_reals(y[0], h);
}

std::vector<Value> grad(GradContext& c) {
  Builder& b = c.builder();
  const int64_t dim = c.attributes().integer(Attr::dimension);
  const bool is_reverse = c.attributes().flag(Attr::is_reverse);
  const Value db = linear_recurrence(b, next_along(b, c.operand(0), dim, is_reverse),
                                     c.cotangent(0), dim, !is_reverse);
  Value da;
  if (c.needs_gradient(0)) da = multiply(b, db, next_along(b, c.result(0), dim, !is_reverse));
  return {da, c.needs_gradient(1) ? db : Value{}};
}

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  return permuted_factors(call, 1, {dim_of(call.attributes)});
}

std::vector<Value> partition(PartitionContext& c) {
  Builder& b = c.builder();
  const int dim = dim_of(c.call().attributes);
  const bool is_reverse = c.call().attributes.flag(Attr::is_reverse);
  CutDim cut;
  Value a = scan_shard(c, 0, dim, cut), addend = scan_shard(c, 1, dim, cut);
  if (is_reverse) {  // from the end, padding comes before the elements
    const DType dtype = b.dtype(a);
    a = clear_padding(b, a, cut, constant(b, 1.0, {dtype, {}}));
    addend = clear_padding(b, addend, cut, constant(b, 0.0, {dtype, {}}));
  }
  const Value local = linear_recurrence(b, a, addend, dim, is_reverse);
  const Value factor = scan(b, a, dim, ReduceKind::product, {is_reverse, false});
  const auto before = [&](Value x, int64_t places, double identity) {
    return from_before(b, x, cut.axes, places, is_reverse, identity);
  };
  Value state = before(last_row(b, local, dim, is_reverse), 1, 0);
  Value gain = before(last_row(b, factor, dim, is_reverse), 1, 1);
  for (int64_t places = 1; places < cut.parts() - 1; places *= 2) {
    const Value earlier_state = before(state, places, 0), earlier_gain = before(gain, places, 1);
    state = add(b, multiply(b, gain, earlier_state), state);
    gain = multiply(b, gain, earlier_gain);
  }
  const Shape shape = b.shape(local);
  return {add(b, local, multiply(b, factor, repeat_row(b, state, shape)))};
}

double exchange_bytes(const OpCall& call, std::span<const TensorType> results,
                      std::span<const AxisList> axes) {
  const FactorRule rule = factors(call, results);
  const CutShapes shapes(rule, axes);
  const int dim = dim_of(call.attributes);
  if (shapes.axes_of(rule.operands[0], dim).empty()) return 0;
  return prefix_bytes(call.operands[0], shapes, rule.operands[0], dim, 2);
}

std::vector<OpSample> samples() {
  auto sample = [](Shape x, int64_t dim, bool is_reverse) {
    return OpSample{{{DType::f64, x}, {DType::f64, x}},
                    {{Attr::dimension, dim}, {Attr::is_reverse, is_reverse}}};
  };
  return {sample({8, 2}, 0, false), sample({2, 7}, 1, true), sample({4}, 0, false)};
}

}  // namespace

const OpDef kLinearRecurrence{.name = "linear_recurrence",
                              .attributes = {Attr::dimension},
                              .optional_attributes = {Attr::is_reverse},
                              .infer = infer,
                              .eval = eval,
                              .grad = grad,
                              .factors = factors,
                              .linear =
                                  [](const OpCall&) {
                                    return std::vector<LinearSet>{{{1}, ReduceKind::sum}};
                                  },
                              .partition = partition,
                              .exchange_bytes = exchange_bytes,
                              .flops =
                                  [](const OpCall&, std::span<const TensorType> results) {
                                    return 2.0 * static_cast<double>(results[0].elements());
                                  },
                              .samples = samples};

Value linear_recurrence(Builder& b, Value a, Value addend, int64_t dimension, bool is_reverse) {
  Attributes attributes{{Attr::dimension, dimension}};
  if (is_reverse) attributes.set(Attr::is_reverse, true);
  return b.emit(kLinearRecurrence, {a, addend}, attributes);
}

}  // namespace tessera::ops
