#include "core/ops/max_abs.h"

#include <cmath>

#include "core/ops/norm.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count("max_abs", call, 1);
  check_float("max_abs", call, 0);
  return {{statistics_dtype(call.operands[0].dtype), {}}};
}

void eval(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  double largest = 0;
  for (const double v : reals_of(*x[0]))
    if (!std::isnan(largest) && !(std::abs(v) <= largest)) largest = std::abs(v);
  y[0].set_real(0, largest);
}

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> dims;
  const Shape& shape = call.operands[0].shape;
  for (int d = 0; d < shape.rank(); ++d)
    dims.push_back(add_factor(rule, shape[d], FactorKind::reduction, ReduceKind::max));
  rule.operands = {dims_of(dims)};
  rule.results = {TensorFactors{}};
  return rule;
}

// Zero, which no absolute value is less than; the identity of max would be infinite here.
std::vector<PadNeed> pad_needs(const PadFacts& facts) {
  std::vector<PadNeed> needs;
  for (int d = 0; d < facts.call.operands[0].rank(); ++d) needs.push_back({0, d, PadContent::zero});
  return needs;
}

std::vector<OpSample> samples() {
  return {{{{DType::f64, {4, 6}}}, {}, {}, false},
          {{{DType::f32, {4, 6}}}, {}, {}, false},
          {{{DType::bf16, {8}}}, {}, {{-3, -1}}, false}};
}

}  // namespace

const OpDef kMaxAbs{.name = "max_abs",
                    .infer = infer,
                    .eval = eval,
                    .factors = factors,
                    .pad_needs = pad_needs,
                    .samples = samples};

Value max_abs(Builder& b, Value x) { return b.emit(kMaxAbs, {x}); }

}  // namespace tessera::ops
