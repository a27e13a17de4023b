#include "core/ops/product_epilogue.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/product_support.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// The product's own call: its operands come first.
OpCall product_of(const OpCall& call) { return {call.operands.first(2), call.attributes}; }

TensorType product_type(std::string_view op, const OpCall& call) {
  check_float(op, call, 0);
  return infer_flat_product(op, product_of(call));
}

TensorType infer_biased(std::string_view op, const OpCall& call) {
  check_operand_count(op, call, 3);
  const TensorType product = product_type(op, call);
  check_bias(op, product_of(call), product, call.operands[2]);
  return product;
}

std::vector<TensorType> infer_bias(const OpCall& call) { return {infer_biased("dot_general_bias", call)}; }

std::vector<TensorType> infer_bias_gelu(const OpCall& call) {
  const TensorType product = infer_biased("dot_general_bias_gelu", call);
  return {product, product};
}

std::vector<TensorType> infer_gelu_grad(const OpCall& call) {
  constexpr std::string_view kName = "dot_general_gelu_grad";
  check_operand_count(kName, call, 3);
  const TensorType product = product_type(kName, call);
  require(call.operands[2] == product, kName, ": the product is ", product, ", x is ", call.operands[2]);
  return {product};
}

std::vector<TensorType> infer_bias_grad(const OpCall& call) {
  constexpr std::string_view kName = "dot_general_bias_grad";
  if (call.operands.size() != 2) check_operand_count(kName, call, 3);
  const TensorType product = product_type(kName, call);
  if (call.operands.size() == 3)
    require(call.operands[2] == product, kName, ": the accumulator is ", call.operands[2], ", the product ", product);
  return {product, bias_of(product_of(call), product)};
}

// ---- eval ---------------------------------------------------------------------------------------

HostTensor biased_product(const OpCall& call, std::span<const HostTensor* const> x, const Shape& shape) {
  HostTensor product = eval_product(product_of(call), x, shape);
  add_repeated(product, *x[2]);
  return product;
}

void eval_bias(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  set_reals(y[0], reals_of(biased_product(call, x, y[0].shape())));
}

void eval_bias_gelu(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const HostTensor sum = biased_product(call, x, y[0].shape());
  const HostTensor* operand = &sum;
  apply_gelu(kGelu, std::span(&operand, 1), y[0]);
  set_reals(y[1], reals_of(sum));
}

void eval_gelu_grad(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const HostTensor product = eval_product(product_of(call), x, y[0].shape());
  const HostTensor* operands[] = {x[2], &product};
  apply_gelu(kGeluGrad, operands, y[0]);
}

void eval_bias_grad(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  HostTensor product = eval_product(product_of(call), x, y[0].shape());
  if (x.size() == 3) add_repeated(product, *x[2]);
  set_reals(y[0], reals_of(product));

  const Ints& contracted = call.attributes.ints(Attr::rhs_contracting);
  const Shape& rhs = x[1]->shape();
  const std::vector<int64_t> kept = y[1].shape().strides();
  std::vector<int64_t> strides;
  for (int d = 0, k = 0; d < rhs.rank(); ++d)
    strides.push_back(std::count(contracted.begin(), contracted.end(), d) ? 0 : kept[static_cast<size_t>(k++)]);
  const std::vector<double> values = reals_of(*x[1]);
  std::vector<double> sums(static_cast<size_t>(y[1].elements()), 0.0);
  walk(rhs, rhs.strides(), strides,
       [&](int64_t from, int64_t to) { sums[static_cast<size_t>(to)] += values[static_cast<size_t>(from)]; });
  set_reals(y[1], sums);
}

// ---- factors ------------------------------------------------------------------------------------

FactorRule factors_bias(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = whole_product_factors(product_of(call), results);
  rule.operands.push_back(bias_factors(product_of(call), rule));
  rule.results.resize(results.size(), rule.results[0]);
  return rule;
}

FactorRule factors_gelu_grad(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = whole_product_factors(product_of(call), results);
  rule.operands.push_back(rule.results[0]);
  return rule;
}

FactorRule factors_bias_grad(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = whole_product_factors(product_of(call), results);
  if (call.operands.size() == 3) rule.operands.push_back(rule.results[0]);
  rule.results.push_back(bias_factors(product_of(call), rule));
  return rule;
}

// ---- the rest -----------------------------------------------------------------------------------

// Per element of the product and of rhs, beside the product's own.
template <int kPerResult, int kPerRhs>
double flops(const OpCall& call, std::span<const TensorType> results) {
  return kDotGeneral.flops(product_of(call), results.first(1)) +
         kPerResult * static_cast<double>(results[0].elements()) +
         kPerRhs * static_cast<double>(call.operands[1].elements());
}

// Those of dot_general, with one more operand of the type that `third` gives, if any.
template <typename Third>
void add_samples(std::vector<OpSample>& samples, Third third) {
  for (OpSample sample : kDotGeneral.samples()) {
    if (!is_float(sample.operands[0].dtype) || !sample.attributes.ints(Attr::lhs_batch).empty()) continue;
    const OpCall call{sample.operands, sample.attributes};
    if (const std::optional<TensorType> type = third(call, kDotGeneral.infer(call)[0]))
      sample.operands.push_back(*type);
    sample.differentiable = false;
    samples.push_back(std::move(sample));
  }
}

std::vector<OpSample> bias_samples() {
  std::vector<OpSample> samples;
  add_samples(samples, [](const OpCall& call, const TensorType& product) -> std::optional<TensorType> {
    return bias_of(call, product);
  });
  return samples;
}

std::vector<OpSample> gelu_grad_samples() {
  std::vector<OpSample> samples;
  add_samples(samples,
              [](const OpCall&, const TensorType& product) -> std::optional<TensorType> { return product; });
  return samples;
}

std::vector<OpSample> bias_grad_samples() {
  std::vector<OpSample> samples = gelu_grad_samples();
  add_samples(samples, [](const OpCall&, const TensorType&) -> std::optional<TensorType> { return std::nullopt; });
  return samples;
}

const std::vector<Attr> kDims = {Attr::lhs_contracting, Attr::rhs_contracting, Attr::lhs_batch, Attr::rhs_batch};

}  // namespace

const OpDef kDotGeneralBias{.name = "dot_general_bias",
                            .attributes = kDims,
                            .optional_attributes = {Attr::dtype},
                            .infer = infer_bias,
                            .eval = eval_bias,
                            .factors = factors_bias,
                            .flops = flops<1, 0>,
                            .samples = bias_samples};

const OpDef kDotGeneralBiasGelu{.name = "dot_general_bias_gelu",
                                .attributes = kDims,
                                .optional_attributes = {Attr::dtype},
                                .infer = infer_bias_gelu,
                                .eval = eval_bias_gelu,
                                .factors = factors_bias,
                                .flops = flops<11, 0>,
                                .samples = bias_samples};

const OpDef kDotGeneralGeluGrad{.name = "dot_general_gelu_grad",
                                .attributes = kDims,
                                .optional_attributes = {Attr::dtype},
                                .infer = infer_gelu_grad,
                                .eval = eval_gelu_grad,
                                .factors = factors_gelu_grad,
                                .flops = flops<10, 0>,
                                .samples = gelu_grad_samples};

const OpDef kDotGeneralBiasGrad{
    .name = "dot_general_bias_grad",
    .attributes = kDims,
    .optional_attributes = {Attr::dtype},
    .infer = infer_bias_grad,
    .eval = eval_bias_grad,
    .factors = factors_bias_grad,
    .flops = flops<0, 1>,
    .samples = bias_grad_samples,
    .alias = [](const OpCall& call, int result) { return result == 0 && call.operands.size() == 3 ? 2 : -1; }};

}  // namespace tessera::ops
