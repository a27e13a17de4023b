#include "core/ops/accumulate.h"

#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/product_support.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// The product's own call, behind the accumulator.
OpCall product_of(const OpCall& call) { return {call.operands.subspan(1), call.attributes}; }

std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count("dot_general_add", call, 3);
  check_float("dot_general_add", call, 0);
  const TensorType product = infer_product("dot_general_add", product_of(call));
  require(product == call.operands[0], "dot_general_add: the accumulator is ", call.operands[0],
          ", the product ", product);
  return {product};
}

// The product is not rounded before it is added.
void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  HostTensor sum = eval_product(product_of(call), x.subspan(1), y[0].shape());
  add_repeated(sum, *x[0]);
  set_reals(y[0], reals_of(sum));
}

// A contracted dim must be whole: shards would each add the accumulator.
FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = whole_product_factors(product_of(call), results);
  rule.operands.insert(rule.operands.begin(), rule.results[0]);
  return rule;
}

std::vector<LinearSet> linear(const OpCall&) {
  return {{{0, 1}, ReduceKind::sum}, {{0, 2}, ReduceKind::sum}};
}

double flops(const OpCall& call, std::span<const TensorType> results) {
  return kDotGeneral.flops(product_of(call), results) +
         static_cast<double>(results[0].elements());
}

std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (OpSample sample : kDotGeneral.samples()) {
    if (!is_float(sample.operands[0].dtype)) continue;
    sample.operands.insert(sample.operands.begin(),
                           kDotGeneral.infer({sample.operands, sample.attributes})[0]);
    sample.differentiable = false;
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace

const OpDef kDotGeneralAdd{
    .name = "dot_general_add",
    .attributes = {Attr::lhs_contracting, Attr::rhs_contracting, Attr::lhs_batch, Attr::rhs_batch},
    .optional_attributes = {Attr::dtype},
    .infer = infer,
    .eval = eval,
    .factors = factors,
    .linear = linear,
    .flops = flops,
    .samples = samples,
    .alias = [](const OpCall&, int) { return 0; }};

}  // namespace tessera::ops
