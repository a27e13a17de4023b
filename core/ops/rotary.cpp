#include <cmath>

#include "core/ops/attention.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer_rotary(const OpCall& call) {
  check_operand_count("rotary", call, 1, 1);
  check_float("rotary", call, 0);
  const TensorType& x = call.operands[0];
  require(x.rank() == 4 && x.shape[3] % 2 == 0, "rotary: needs [b,l,h,d] with even d, got ", x);
  return {x};
}

void eval_rotary(const OpCall& call, std::span<const HostTensor* const> operands,
                 std::span<HostTensor> results) {
  const Shape& shape = call.operands[0].shape;
  const int64_t start = start_of(operands, 1), half = shape[3] / 2;
  const double theta = call.attributes.number(Attr::theta),
               sign = call.attributes.flag(Attr::inverse) ? -1 : 1;
  std::vector<double> x = reals_of(*operands[0]);
  for (int64_t row = 0; row < shape[0] * shape[1] * shape[2]; ++row) {
    const auto position = static_cast<double>(start + row / shape[2] % shape[1]);
    double* pairs = x.data() + row * shape[3];
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          position * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(shape[3]));
      const double cosine = std::cos(angle), sine = sign * std::sin(angle);
      const double a = pairs[i], b = pairs[i + half];
      pairs[i] = a * cosine - b * sine;
      pairs[i + half] = b * cosine + a * sine;
    }
  }
  set_reals(results[0], x);
}

std::vector<Value> grad_rotary(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  std::optional<Value> start;
  if (c.operand_count() > 1) start = c.operand(1);
  if (c.needs_gradient(0))
    cotangents[0] = rotary(c.builder(), c.cotangent(0), c.attributes().number(Attr::theta),
                           !c.attributes().flag(Attr::inverse), start);
  return cotangents;
}

FactorRule rotary_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const Shape& shape = call.operands[0].shape;
  const TensorFactors dims = dims_of(
      {add_factor(rule, shape[0]),
       add_factor(rule, shape[1], FactorKind::pass_through, ReduceKind::sum, true),
       add_factor(rule, shape[2]), add_factor(rule, shape[3], FactorKind::need_replication)});
  rule.operands = rule.results = {dims};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear_rotary(const OpCall&) { return {{{0}, ReduceKind::sum}}; }

double rotary_flops(const OpCall&, std::span<const TensorType> results) {
  return 3.0 * static_cast<double>(results[0].elements());
}

std::vector<OpSample> rotary_samples() {
  return {{{{DType::f64, {2, 4, 2, 4}}}, {{Attr::theta, 10000.0}}},
          {{{DType::f64, {2, 4, 2, 4}}}, {{Attr::theta, 100.0}, {Attr::inverse, true}}},
          {{{DType::bf16, {2, 4, 2, 4}}}, {{Attr::theta, 10000.0}}, {}, false}};
}

}  // namespace

const OpDef kRotary{.name = "rotary",
                    .attributes = {Attr::theta},
                    .optional_attributes = {Attr::inverse},
                    .infer = infer_rotary,
                    .eval = eval_rotary,
                    .grad = grad_rotary,
                    .factors = rotary_factors,
                    .linear = linear_rotary,
                    .flops = rotary_flops,
                    .samples = rotary_samples};

Value rotary(Builder& b, Value x, double theta, bool inverse, std::optional<Value> start) {
  std::vector<Value> operands{x};
  if (start) operands.push_back(*start);
  Attributes attributes{{Attr::theta, theta}};
  if (inverse) attributes.set(Attr::inverse, true);
  return b.emit(kRotary, operands, attributes);
}

}  // namespace tessera::ops
