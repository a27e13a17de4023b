#include "core/ops/scaled_product.h"

#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/product_support.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

OpCall product_of(const OpCall& call) { return {call.operands.first(2), call.attributes}; }

bool has_fifth(const OpCall& call) { return call.operands.size() == 5; }

// ---- infer --------------------------------------------------------------------------------------

TensorType infer_scaled(std::string_view op, const OpCall& call) {
  for (const TensorType& type : call.operands.first(2))
    require(is_f8(type.dtype), op, ": multiplies f8, not ", type);
  for (const TensorType& scale : call.operands.subspan(2, 2))
    require(scale == TensorType{DType::f32, {}}, op, ": a scale is f32[], not ", scale);
  return infer_flat_product(op, product_of(call));
}

TensorType infer_biased(std::string_view op, const OpCall& call) {
  const TensorType product = infer_scaled(op, call);
  check_bias(op, product_of(call), product, call.operands[4]);
  return product;
}

std::vector<TensorType> infer(const OpCall& call) {
  constexpr std::string_view kName = "scaled_dot_general";
  if (has_fifth(call)) return {infer_biased(kName, call)};
  check_operand_count(kName, call, 4);
  return {infer_scaled(kName, call)};
}

std::vector<TensorType> infer_gelu(const OpCall& call) {
  constexpr std::string_view kName = "scaled_dot_general_gelu";
  check_operand_count(kName, call, 5);
  return std::vector(2, infer_biased(kName, call));
}

std::vector<TensorType> infer_add(const OpCall& call) {
  constexpr std::string_view kName = "scaled_dot_general_add";
  check_operand_count(kName, call, 5);
  const TensorType product = infer_scaled(kName, call);
  require(call.operands[4] == product, kName, ": the accumulator is ", call.operands[4], ", the product ", product);
  return {product};
}

// ---- eval ---------------------------------------------------------------------------------------

// In f64, with the fifth operand added along the last dims.
HostTensor scaled_sum(const OpCall& call, std::span<const HostTensor* const> x, const Shape& shape) {
  HostTensor product = eval_product(product_of(call), x, shape);
  std::vector<double> values = reals_of(product);
  const double scale = x[2]->get_real(0) * x[3]->get_real(0);
  for (double& value : values) value *= scale;
  set_reals(product, values);
  if (has_fifth(call)) add_repeated(product, *x[4]);
  return product;
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  set_reals(y[0], reals_of(scaled_sum(call, x, y[0].shape())));
}

void eval_gelu(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const HostTensor sum = scaled_sum(call, x, y[0].shape());
  const HostTensor* const operand = &sum;
  apply_gelu(kGelu, std::span(&operand, 1), y[0]);
  set_reals(y[1], reals_of(sum));
}

// ---- factors ------------------------------------------------------------------------------------

FactorRule scaled_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = whole_product_factors(product_of(call), results);
  rule.operands.resize(4);
  return rule;
}

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = scaled_factors(call, results);
  if (has_fifth(call)) rule.operands.push_back(bias_factors(product_of(call), rule));
  rule.results.resize(results.size(), rule.results[0]);
  return rule;
}

FactorRule factors_add(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = scaled_factors(call, results);
  rule.operands.push_back(rule.results[0]);
  return rule;
}

// ---- the rest -----------------------------------------------------------------------------------

// Per element of the result, beside the product's own.
template <int kPerResult>
double flops(const OpCall& call, std::span<const TensorType> results) {
  return kDotGeneral.flops(product_of(call), results.first(1)) +
         kPerResult * static_cast<double>(results[0].elements());
}

// [2, 4, 16] by [16, 2, 8]
OpSample sample(DType lhs, DType rhs, DType out, std::vector<TensorType> fifth) {
  const TensorType scale{DType::f32, {}};
  OpSample made{{{lhs, {2, 4, 16}}, {rhs, {16, 2, 8}}, scale, scale},
                {{Attr::lhs_contracting, Ints{2}},
                 {Attr::rhs_contracting, Ints{0}},
                 {Attr::lhs_batch, Ints{}},
                 {Attr::rhs_batch, Ints{}},
                 {Attr::dtype, out}},
                {},
                false};
  made.operands.insert(made.operands.end(), fifth.begin(), fifth.end());
  return made;
}

std::vector<OpSample> samples() {
  return {sample(DType::f8e4m3fn, DType::f8e4m3fn, DType::bf16, {{DType::bf16, {2, 8}}}),
          sample(DType::f8e5m2, DType::f8e4m3fn, DType::bf16, {}),
          sample(DType::f8e4m3fn, DType::f8e5m2, DType::f32, {})};
}

std::vector<OpSample> gelu_samples() {
  return {sample(DType::f8e4m3fn, DType::f8e4m3fn, DType::bf16, {{DType::bf16, {2, 8}}})};
}

std::vector<OpSample> add_samples() {
  return {sample(DType::f8e4m3fn, DType::f8e5m2, DType::f32, {{DType::f32, {2, 4, 2, 8}}})};
}

const std::vector<Attr> kDims = {Attr::lhs_contracting, Attr::rhs_contracting, Attr::lhs_batch, Attr::rhs_batch};

}  // namespace

const OpDef kScaledDotGeneral{.name = "scaled_dot_general",
                              .attributes = kDims,
                              .optional_attributes = {Attr::dtype},
                              .infer = infer,
                              .eval = eval,
                              .factors = factors,
                              .pad_needs = no_pad_needs,
                              .flops = flops<2>,
                              .samples = samples};

const OpDef kScaledDotGeneralGelu{.name = "scaled_dot_general_gelu",
                                  .attributes = kDims,
                                  .optional_attributes = {Attr::dtype},
                                  .infer = infer_gelu,
                                  .eval = eval_gelu,
                                  .factors = factors,
                                  .pad_needs = no_pad_needs,
                                  .flops = flops<12>,
                                  .samples = gelu_samples};

const OpDef kScaledDotGeneralAdd{.name = "scaled_dot_general_add",
                                 .attributes = kDims,
                                 .optional_attributes = {Attr::dtype},
                                 .infer = infer_add,
                                 .eval = eval,
                                 .factors = factors_add,
                                 .pad_needs = no_pad_needs,
                                 .flops = flops<3>,
                                 .samples = add_samples,
                                 .alias = [](const OpCall&, int) { return 4; }};

}  // namespace tessera::ops
