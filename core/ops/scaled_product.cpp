#include "core/ops/scaled_product.h"

#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

constexpr std::string_view kName = "scaled_dot_general";

OpCall product_of(const OpCall& call) { return {call.operands.first(2), call.attributes}; }

bool has_bias(const OpCall& call) { return call.operands.size() == 5; }

int rhs_free(const OpCall& call) {
  return call.operands[1].rank() - static_cast<int>(call.attributes.ints(Attr::rhs_contracting).size());
}

TensorType product_type(const OpCall& call) {
  try {
    return kDotGeneral.infer(product_of(call))[0];
  } catch (const UserError& error) {
    throw_user_error(kName, ": ", error.what());
  }
}

std::vector<TensorType> infer(const OpCall& call) {
  if (!has_bias(call)) check_operand_count(kName, call, 4);
  for (const TensorType& type : call.operands.first(2))
    require(is_f8(type.dtype), kName, ": multiplies f8, not ", type);
  require(call.attributes.ints(Attr::lhs_batch).empty(), kName, ": takes no batch dims, but ", call.operands[0],
          " has [", join(call.attributes.ints(Attr::lhs_batch), ","), "]");
  for (const TensorType& scale : call.operands.subspan(2, 2))
    require(scale == TensorType{DType::f32, {}}, kName, ": a scale is f32[], not ", scale);
  const TensorType product = product_type(call);
  if (!has_bias(call)) return {product};
  TensorType bias{product.dtype, {}};
  for (int d = product.rank() - rhs_free(call); d < product.rank(); ++d) bias.shape.push_back(product.shape[d]);
  require(call.operands[4] == bias, kName, ": the bias of a product ", product, " is ", bias, ", not ",
          call.operands[4]);
  return {product};
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  std::vector<HostTensor> product;
  product.emplace_back(TensorType{DType::f64, y[0].shape()});
  kDotGeneral.eval(product_of(call), x.first(2), product);
  std::vector<double> values = reals_of(product[0]);
  const double scale = x[2]->get_real(0) * x[3]->get_real(0);
  for (double& value : values) value *= scale;
  if (has_bias(call)) {
    const std::vector<double> bias = reals_of(*x[4]);
    for (size_t i = 0; i < values.size(); ++i) values[i] += bias[i % bias.size()];
  }
  set_reals(y[0], values);
}

// The product's rule; contracted dims must be whole, for the bias is added once.
FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule = kDotGeneral.factors(product_of(call), results);
  for (Factor& factor : rule.factors)
    if (factor.kind == FactorKind::reduction) factor.kind = FactorKind::need_replication;
  rule.operands.resize(4);
  if (has_bias(call)) rule.operands.push_back({rule.results[0].end() - rhs_free(call), rule.results[0].end()});
  return rule;
}

double flops(const OpCall& call, std::span<const TensorType> results) {
  return kDotGeneral.flops(product_of(call), results) + 2 * static_cast<double>(results[0].elements());
}

std::vector<OpSample> samples() {
  const TensorType scale{DType::f32, {}};
  const auto sample = [&](DType lhs, DType rhs, DType out, bool biased) {
    OpSample made{{{lhs, {2, 4, 16}}, {rhs, {16, 2, 8}}, scale, scale},
                  {{Attr::lhs_contracting, Ints{2}},
                   {Attr::rhs_contracting, Ints{0}},
                   {Attr::lhs_batch, Ints{}},
                   {Attr::rhs_batch, Ints{}},
                   {Attr::dtype, out}},
                  {},
                  false};
    if (biased) made.operands.push_back({out, {2, 8}});
    return made;
  };
  return {sample(DType::f8e4m3fn, DType::f8e4m3fn, DType::bf16, true),
          sample(DType::f8e5m2, DType::f8e4m3fn, DType::bf16, false),
          sample(DType::f8e4m3fn, DType::f8e5m2, DType::f32, false)};
}

}  // namespace

const OpDef kScaledDotGeneral{
    .name = kName,
    .attributes = {Attr::lhs_contracting, Attr::rhs_contracting, Attr::lhs_batch, Attr::rhs_batch},
    .optional_attributes = {Attr::dtype},
    .infer = infer,
    .eval = eval,
    .factors = factors,
    .pad_needs = no_pad_needs,
    .flops = flops,
    .samples = samples};

}  // namespace tessera::ops
