#include "core/ops/product_support.h"

#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

int rhs_free(const OpCall& product) {
  return product.operands[1].rank() - static_cast<int>(product.attributes.ints(Attr::rhs_contracting).size());
}

}  // namespace

TensorType infer_product(std::string_view op, const OpCall& product) {
  try {
    return kDotGeneral.infer(product)[0];
  } catch (const UserError& error) {
    throw_user_error(op, ": ", error.what());
  }
}

TensorType infer_flat_product(std::string_view op, const OpCall& product) {
  const Ints& batch = product.attributes.ints(Attr::lhs_batch);
  require(batch.empty(), op, ": takes no batch dims, but ", product.operands[0], " has [", join(batch, ","), "]");
  return infer_product(op, product);
}

TensorType bias_of(const OpCall& product, const TensorType& result) {
  TensorType bias{result.dtype, {}};
  for (int d = result.rank() - rhs_free(product); d < result.rank(); ++d) bias.shape.push_back(result.shape[d]);
  return bias;
}

void check_bias(std::string_view op, const OpCall& product, const TensorType& result, const TensorType& bias) {
  const TensorType expected = bias_of(product, result);
  require(bias == expected, op, ": the bias of a product ", result, " is ", expected, ", not ", bias);
}

HostTensor eval_product(const OpCall& product, std::span<const HostTensor* const> x, const Shape& shape) {
  std::vector<HostTensor> result;
  result.emplace_back(TensorType{DType::f64, shape});
  kDotGeneral.eval(product, x.first(2), result);
  return std::move(result[0]);
}

void add_repeated(HostTensor& values, const HostTensor& added) {
  std::vector<double> sums = reals_of(values);
  const std::vector<double> terms = reals_of(added);
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += terms[i % terms.size()];
  set_reals(values, sums);
}

void apply_gelu(const OpDef& op, std::span<const HostTensor* const> operands, HostTensor& result) {
  std::vector<TensorType> types;
  for (const HostTensor* operand : operands) types.push_back(operand->type());
  const Attributes attributes{{Attr::is_approximate, true}};
  op.eval({types, attributes}, operands, std::span(&result, 1));
}

FactorRule whole_product_factors(const OpCall& product, std::span<const TensorType> results) {
  FactorRule rule = kDotGeneral.factors(product, results.first(1));
  for (Factor& factor : rule.factors)
    if (factor.kind == FactorKind::reduction) factor.kind = FactorKind::need_replication;
  return rule;
}

TensorFactors bias_factors(const OpCall& product, const FactorRule& rule) {
  return {rule.results[0].end() - rhs_free(product), rule.results[0].end()};
}

}  // namespace tessera::ops
