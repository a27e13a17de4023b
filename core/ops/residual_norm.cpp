#include "core/ops/residual_norm.h"

#include "core/base/error.h"
#include "core/ops/norm.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer_of(const OpDef& op, const OpDef& norm, std::span<const TensorType> operands,
                                 const Attributes& attributes) {
  try {
    return norm.infer({operands, attributes});
  } catch (const UserError& error) {
    throw_user_error(op.name, ": ", error.what());
  }
}

double flops_of(const OpDef& norm, std::span<const TensorType> operands, const OpCall& call,
                std::span<const TensorType> results) {
  return norm.flops({operands, call.attributes}, results) + static_cast<double>(call.operands[0].elements());
}

// Operands and results have the dims of the batch (rows), the last one (columns), or both. Columns are whole; so
// are the rows of gradients, whose sums over rows nobody combines behind localize.
FactorRule norm_factors(const OpCall& call, std::span<const TensorType> results, bool sums_rows) {
  FactorRule rule;
  const Shape& x = call.operands[0].shape;
  std::vector<int> all = add_factors(rule, without_last(x), sums_rows ? FactorKind::need_replication
                                                                      : FactorKind::pass_through);
  const std::vector<int> rows = all;
  const int columns = add_factor(rule, last_dim(x), FactorKind::need_replication);
  all.push_back(columns);
  // By place: a square x, or one of a single dim, has operands of the same shape that mean other things.
  const size_t statistics = sums_rows ? call.operands.size() - 4 : 0;
  for (size_t i = 0; i < call.operands.size(); ++i) {
    const bool is_weight = sums_rows ? i == 1 : i >= 2;
    const bool is_statistic = sums_rows && i >= 2 && i < 2 + statistics;
    rule.operands.push_back(dims_of(is_weight ? std::vector{columns} : is_statistic ? rows : all));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const bool has_both = i == 0 || (!sums_rows && i + 1 == results.size());
    rule.results.push_back(dims_of(has_both ? all : sums_rows ? std::vector{columns} : rows));
  }
  return rule;
}

// ---- the sum, then the norm ---------------------------------------------------------------------

// (x, gamma, ...) of the norm itself.
std::vector<TensorType> norm_operands(const OpCall& call) {
  std::vector<TensorType> operands(call.operands.begin(), call.operands.end());
  operands.erase(operands.begin() + 1);
  return operands;
}

template <const OpDef& kOp, const OpDef& kNorm, int kWeights>
std::vector<TensorType> infer_add(const OpCall& call) {
  check_operand_count(kOp.name, call, 2 + kWeights);
  check_float(kOp.name, call, 0);
  require(call.operands[0] == call.operands[1], kOp.name, ": x is ", call.operands[0], ", the residual ",
          call.operands[1]);
  std::vector<TensorType> results = infer_of(kOp, kNorm, norm_operands(call), call.attributes);
  results.push_back(call.operands[0]);
  return results;
}

// The norm sees the sum as it is stored: fused or not, the program computes the same.
template <const OpDef& kNorm>
void eval_add(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  std::vector<double> sum = reals_of(*x[0]);
  const std::vector<double> added = reals_of(*x[1]);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += added[i];
  HostTensor& stored = y.back();
  set_reals(stored, sum);
  std::vector<const HostTensor*> operands(x.begin() + 1, x.end());
  operands[0] = &stored;
  const std::vector<TensorType> types = norm_operands(call);
  kNorm.eval({types, call.attributes}, operands, y.first(y.size() - 1));
}

FactorRule factors_add(const OpCall& call, std::span<const TensorType> results) {
  return norm_factors(call, results, false);
}

template <const OpDef& kNorm>
double flops_add(const OpCall& call, std::span<const TensorType> results) {
  return flops_of(kNorm, norm_operands(call), call, results);
}

template <const OpDef& kNorm>
std::vector<OpSample> samples_add() {
  std::vector<OpSample> samples;
  for (OpSample sample : kNorm.samples()) {
    sample.operands.insert(sample.operands.begin(), sample.operands[0]);
    sample.differentiable = false;
    samples.push_back(std::move(sample));
  }
  return samples;
}

// ---- the gradient, then the sum -----------------------------------------------------------------

template <const OpDef& kOp, const OpDef& kGrad, int kOperands>
std::vector<TensorType> infer_grad_add(const OpCall& call) {
  check_operand_count(kOp.name, call, kOperands + 1);
  const std::vector<TensorType> results =
      infer_of(kOp, kGrad, call.operands.first(kOperands), call.attributes);
  require(call.operands[kOperands] == results[0], kOp.name, ": the gradient is ", results[0], ", the residual ",
          call.operands[kOperands]);
  return results;
}

template <const OpDef& kGrad>
void eval_grad_add(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const size_t own = x.size() - 1;
  std::vector<HostTensor> gradient(y.begin(), y.end());
  gradient[0] = HostTensor(TensorType{DType::f64, y[0].shape()});
  kGrad.eval({call.operands.first(own), call.attributes}, x.first(own), gradient);
  std::vector<double> sum = reals_of(gradient[0]);
  const std::vector<double> residual = reals_of(*x[own]);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += residual[i];
  set_reals(y[0], sum);
  for (size_t r = 1; r < y.size(); ++r) y[r] = gradient[r];
}

FactorRule factors_grad_add(const OpCall& call, std::span<const TensorType> results) {
  return norm_factors(call, results, true);
}

template <const OpDef& kGrad>
double flops_grad_add(const OpCall& call, std::span<const TensorType> results) {
  return flops_of(kGrad, call.operands.first(call.operands.size() - 1), call, results);
}

template <const OpDef& kGrad>
std::vector<OpSample> samples_grad_add() {
  std::vector<OpSample> samples = kGrad.samples();
  for (OpSample& sample : samples) sample.operands.push_back(sample.operands[0]);
  return samples;
}

}  // namespace

const OpDef kAddLayerNorm{.name = "add_layer_norm",
                          .attributes = {Attr::epsilon},
                          .infer = infer_add<kAddLayerNorm, kLayerNorm, 2>,
                          .eval = eval_add<kLayerNorm>,
                          .factors = factors_add,
                          .flops = flops_add<kLayerNorm>,
                          .samples = samples_add<kLayerNorm>};
const OpDef kAddRmsNorm{.name = "add_rms_norm",
                        .attributes = {Attr::epsilon},
                        .infer = infer_add<kAddRmsNorm, kRmsNorm, 1>,
                        .eval = eval_add<kRmsNorm>,
                        .factors = factors_add,
                        .flops = flops_add<kRmsNorm>,
                        .samples = samples_add<kRmsNorm>};
const OpDef kLayerNormGradAdd{.name = "layer_norm_grad_add",
                              .infer = infer_grad_add<kLayerNormGradAdd, kLayerNormGrad, 5>,
                              .eval = eval_grad_add<kLayerNormGrad>,
                              .factors = factors_grad_add,
                              .flops = flops_grad_add<kLayerNormGrad>,
                              .samples = samples_grad_add<kLayerNormGrad>};
const OpDef kRmsNormGradAdd{.name = "rms_norm_grad_add",
                            .infer = infer_grad_add<kRmsNormGradAdd, kRmsNormGrad, 4>,
                            .eval = eval_grad_add<kRmsNormGrad>,
                            .factors = factors_grad_add,
                            .flops = flops_grad_add<kRmsNormGrad>,
                            .samples = samples_grad_add<kRmsNormGrad>};

}  // namespace tessera::ops
