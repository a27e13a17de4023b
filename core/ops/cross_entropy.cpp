#include "core/ops/cross_entropy.h"

#include <cmath>

#include "core/base/error.h"
#include "core/ops/loss.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

constexpr const char* kName = "cross_entropy_with_grad";

bool has_slope(const OpCall& call) { return call.operands.size() == 5; }

std::vector<TensorType> infer(const OpCall& call) {
  if (!has_slope(call)) check_operand_count(kName, call, 4);
  const TensorType &logits = call.operands[0], &targets = call.operands[1];
  try {
    const TensorType row = kLogitsMax.infer({{&logits, 1}, call.attributes})[0];
    const TensorType of_sum[] = {logits, row, targets};
    kLogitsSum.infer({of_sum, call.attributes});
    for (size_t i = 2; i < call.operands.size(); ++i)
      require(call.operands[i] == row, "operand ", i, " of logits ", logits, " must be ", row,
              ", not ", call.operands[i]);
    return {row, row, row, logits};
  } catch (const UserError& error) {
    throw_user_error(kName, ": ", error.what());
  }
}

// The three ops' own evaluations, with parts that are not rounded in between.
void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const TensorType row{DType::f64, y[0].shape()};
  std::vector<HostTensor> max, sums, gradient;
  max.emplace_back(row);
  sums.assign(2, HostTensor(row));
  gradient.emplace_back(y[3].type());
  const std::vector<const HostTensor*> of_sum = {x[0], &max[0], x[1]};
  const TensorType types[] = {call.operands[0], row, call.operands[1], row, row};
  const std::span<const TensorType> operands(types);
  kLogitsMax.eval({operands.first(1), call.attributes}, {x.data(), 1}, max);
  kLogitsSum.eval({operands.first(3), call.attributes}, of_sum, sums);

  HostTensor d_sum(row);
  for (int64_t r = 0; r < d_sum.elements(); ++r) {
    const double sum = sums[0].get_real(r);
    double slope = x[3]->get_real(r);
    if (has_slope(call)) slope += x[4]->get_real(r) * (max[0].get_real(r) + std::log(sum));
    d_sum.set_real(r, slope / sum);
  }
  const std::vector<const HostTensor*> of_grad = {x[0], &max[0], x[1], &d_sum, x[2]};
  kLogitsSumGrad.eval({operands, call.attributes}, of_grad, gradient);
  set_reals(y[0], reals_of(max[0]));
  set_reals(y[1], reals_of(sums[0]));
  set_reals(y[2], reals_of(sums[1]));
  y[3] = gradient[0];
}

// Rows are on their own; a shard of the vocabulary would lack the others' maxima and sums.
FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const std::vector<int> rows = add_factors(rule, without_last(call.operands[0].shape));
  std::vector<int> all = rows;
  all.push_back(add_factor(rule, last_dim(call.operands[0].shape), FactorKind::need_replication));
  rule.operands.assign(call.operands.size(), dims_of(rows));
  rule.operands[0] = dims_of(all);
  rule.results.assign(4, dims_of(rows));
  rule.results[3] = dims_of(all);
  return rule;
}

double flops(const OpCall& call, std::span<const TensorType>) {
  return 7 * static_cast<double>(call.operands[0].elements());  // of its three ops
}

// With and without padding of the vocabulary, and a slope.
std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (const auto& [dtype, valid, operands] : {std::tuple{DType::f64, int64_t{8}, 4},
                                               {DType::f64, int64_t{5}, 5},
                                               {DType::bf16, int64_t{8}, 5}}) {
    const TensorType logits{dtype, {4, 2, 8}},
        row{dtype == DType::f64 ? DType::f64 : DType::f32, {4, 2}};
    OpSample sample{{logits, {DType::s32, {4, 2}}},
                    {{Attr::valid_size, valid}},
                    {{-2, 2}, {0, static_cast<double>(valid - 1)}},
                    false};
    while (sample.operands.size() < static_cast<size_t>(operands)) sample.operands.push_back(row);
    samples.push_back(sample);
  }
  return samples;
}

}  // namespace

const OpDef kCrossEntropyWithGrad{.name = kName,
                                  .attributes = {Attr::valid_size},
                                  .infer = infer,
                                  .eval = eval,
                                  .factors = factors,
                                  .pad_needs = no_pad_needs,
                                  .flops = flops,
                                  .samples = samples};

}  // namespace tessera::ops
