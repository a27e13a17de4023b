#include "core/ops/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

TensorType row_type(const TensorType& logits) {
  return {statistics_dtype(logits.dtype), without_last(logits.shape)};
}

int64_t valid_size(const OpCall& call) { return call.attributes.integer(Attr::valid_size); }

// Checks operand 0 and the count; a shard (which has a start) may lie wholly in the padding.
void check_logits(std::string_view op, const OpCall& call, int own) {
  check_operand_count(op, call, own, 1);
  check_float(op, call, 0);
  const TensorType& logits = call.operands[0];
  require(logits.rank() >= 1, op, ": logits must have a last dim, got ", logits);
  require(
      valid_size(call) >= 1 && (has_start(call, own) || valid_size(call) <= last_dim(logits.shape)),
      op, ": valid_size ", valid_size(call), " does not lie in the last dim of ", logits);
}

void check_row(std::string_view op, const OpCall& call, int operand) {
  require(call.operands[operand] == row_type(call.operands[0]), op, ": operand ", operand,
          " of logits ", call.operands[0], " must be ", row_type(call.operands[0]), ", not ",
          call.operands[operand]);
}

void check_targets(std::string_view op, const OpCall& call, int operand) {
  const TensorType& targets = call.operands[operand];
  require(is_integer(targets.dtype) && targets.shape == without_last(call.operands[0].shape), op,
          ": targets of logits ", call.operands[0], " must be integers ",
          without_last(call.operands[0].shape), ", not ", targets);
}

// Logits as [rows, width], of which the first `valid` columns of this shard take part.
struct Columns {
  Columns(const OpCall& call, std::span<const HostTensor* const> operands, size_t own)
      : start(start_of(operands, own)),
        width(last_dim(call.operands[0].shape)),
        rows(width ? call.operands[0].elements() / width : 0),
        valid(std::clamp<int64_t>(valid_size(call) - start, 0, width)) {}
  // Where `target` stands in a row of this shard, or -1.
  int64_t column(int64_t target) const {
    const int64_t column = target - start;
    return column >= 0 && column < valid ? column : -1;
  }
  int64_t start, width, rows, valid;
};

// ---- logits_max ---------------------------------------------------------------------------------

std::vector<TensorType> infer_max(const OpCall& call) {
  check_logits("logits_max", call, 1);
  return {row_type(call.operands[0])};
}

void eval_max(const OpCall& call, std::span<const HostTensor* const> operands,
              std::span<HostTensor> results) {
  const Columns columns(call, operands, 1);
  const std::vector<double> logits = reals_of(*operands[0]);
  std::vector<double> largest;
  for (int64_t r = 0; r < columns.rows; ++r) {
    double row_largest = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < columns.valid; ++i) {
      const double logit = logits[r * columns.width + i];
      if (std::isnan(logit) || logit > row_largest) row_largest = logit;
      if (std::isnan(row_largest)) break;
    }
    largest.push_back(row_largest);
  }
  set_reals(results[0], largest);
}

// loss = max + log(sum exp(l - max)) - l[target]: the two cotangents of max cancel, so neither is
// made.
std::vector<Value> grad_max(GradContext& c) {
  return std::vector<Value>(static_cast<size_t>(c.operand_count()));
}

// ---- logits_sum ---------------------------------------------------------------------------------

std::vector<TensorType> infer_sum(const OpCall& call) {
  check_logits("logits_sum", call, 3);
  check_row("logits_sum", call, 1);
  check_targets("logits_sum", call, 2);
  return {row_type(call.operands[0]), row_type(call.operands[0])};
}

void eval_sum(const OpCall& call, std::span<const HostTensor* const> operands,
              std::span<HostTensor> results) {
  const Columns columns(call, operands, 3);
  const std::vector<double> logits = reals_of(*operands[0]), max = reals_of(*operands[1]);
  std::vector<double> sums, at_target;
  for (int64_t r = 0; r < columns.rows; ++r) {
    const double* row = logits.data() + r * columns.width;
    double sum = 0;
    for (int64_t i = 0; i < columns.valid; ++i) sum += std::exp(row[i] - max[r]);
    const int64_t target = columns.column(operands[2]->get_int(r));
    sums.push_back(sum);
    at_target.push_back(target < 0 ? 0 : row[target]);
  }
  set_reals(results[0], sums);
  set_reals(results[1], at_target);
}

std::vector<Value> grad_sum(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  if (c.needs_gradient(0))
    cotangents[0] =
        logits_sum_grad(c.builder(), c.operand(0), c.operand(1), c.operand(2), c.cotangent(0),
                        c.cotangent(1), c.attributes().integer(Attr::valid_size));
  return cotangents;
}

// ---- logits_sum_grad ----------------------------------------------------------------------------

std::vector<TensorType> infer_sum_grad(const OpCall& call) {
  check_logits("logits_sum_grad", call, 5);
  check_targets("logits_sum_grad", call, 2);
  for (int operand : {1, 3, 4}) check_row("logits_sum_grad", call, operand);
  return {call.operands[0]};
}

void eval_sum_grad(const OpCall& call, std::span<const HostTensor* const> operands,
                   std::span<HostTensor> results) {
  const Columns columns(call, operands, 5);
  const std::vector<double> logits = reals_of(*operands[0]), max = reals_of(*operands[1]),
                            d_sum = reals_of(*operands[3]), d_target = reals_of(*operands[4]);
  std::vector<double> dlogits(logits.size(), 0);
  for (int64_t r = 0; r < columns.rows; ++r) {
    const int64_t offset = r * columns.width;
    for (int64_t i = 0; i < columns.valid; ++i)
      dlogits[offset + i] = std::exp(logits[offset + i] - max[r]) * d_sum[r];
    const int64_t target = columns.column(operands[2]->get_int(r));
    if (target >= 0) dlogits[offset + target] += d_target[r];
  }
  set_reals(results[0], dlogits);
}

// ---- shared -------------------------------------------------------------------------------------

// Operand 0, and result 0 of the gradient, have rows and columns; everything else has rows.
template <FactorKind kColumns, ReduceKind kReduce>
FactorRule loss_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  const std::vector<int> rows = add_factors(rule, without_last(call.operands[0].shape));
  std::vector<int> all = rows;
  all.push_back(add_factor(rule, last_dim(call.operands[0].shape), kColumns, kReduce, true));
  auto factors_of = [&](const TensorType& type) {
    const bool is_start = type == TensorType{DType::s64, {}} && !rows.empty();
    return is_start ? TensorFactors{} : dims_of(type.shape == call.operands[0].shape ? all : rows);
  };
  for (const TensorType& operand : call.operands) rule.operands.push_back(factors_of(operand));
  for (const TensorType& result : results) rule.results.push_back(factors_of(result));
  return rule;
}

std::vector<LinearSet> linear_max_set(const OpCall&) { return {{{0}, ReduceKind::max}}; }
std::vector<LinearSet> linear_sum_grad(const OpCall&) { return {{{3, 4}, ReduceKind::sum}}; }

// Columns from valid_size on, which take no part, are written as zeros; those are all the padding.
std::vector<PadContents> transfer_sum_grad(const PadFacts& facts) {
  std::vector<PadContents> contents = transfer_constant(facts, PadContent::unknown);
  contents[0].back() = PadContent::zero;
  return contents;
}

template <int kPerElement>
double flops(const OpCall& call, std::span<const TensorType>) {
  return kPerElement * static_cast<double>(call.operands[0].elements());
}

// f64 and mixed bf16; with and without padding columns.
template <bool kHasTargets, int kRowOperands, int kLastRows, bool kIsDifferentiable>
std::vector<OpSample> loss_samples() {
  std::vector<OpSample> samples;
  for (const auto& [dtype, valid] :
       {std::pair{DType::f64, int64_t{8}}, {DType::f64, int64_t{5}}, {DType::bf16, int64_t{8}}}) {
    const TensorType logits{dtype, {4, 2, 8}}, row = row_type(logits);
    OpSample sample{
        {logits}, {{Attr::valid_size, valid}}, {{-2, 2}}, kIsDifferentiable && dtype == DType::f64};
    for (int i = 0; i < kRowOperands; ++i) sample.operands.push_back(row);
    if (kRowOperands) sample.ranges.push_back({1, 2});
    if (kHasTargets) {
      sample.operands.push_back({DType::s32, {4, 2}});
      sample.ranges.push_back({0, static_cast<double>(valid - 1)});
    }
    for (int i = 0; i < kLastRows; ++i) sample.operands.push_back(row);
    samples.push_back(sample);
  }
  return samples;
}

}  // namespace

const OpDef kLogitsMax{.name = "logits_max",
                       .attributes = {Attr::valid_size},
                       .infer = infer_max,
                       .eval = eval_max,
                       .grad = grad_max,
                       .factors = loss_factors<FactorKind::reduction, ReduceKind::max>,
                       .linear = linear_max_set,
                       .pad_needs = no_pad_needs,
                       .flops = flops<1>,
                       .samples = loss_samples<false, 0, 0, false>};
const OpDef kLogitsSum{.name = "logits_sum",
                       .attributes = {Attr::valid_size},
                       .infer = infer_sum,
                       .eval = eval_sum,
                       .grad = grad_sum,
                       .factors = loss_factors<FactorKind::reduction, ReduceKind::sum>,
                       .pad_needs = no_pad_needs,
                       .flops = flops<3>,
                       .samples = loss_samples<true, 1, 0, true>};
const OpDef kLogitsSumGrad{.name = "logits_sum_grad",
                           .attributes = {Attr::valid_size},
                           .infer = infer_sum_grad,
                           .eval = eval_sum_grad,
                           .factors = loss_factors<FactorKind::pass_through, ReduceKind::sum>,
                           .linear = linear_sum_grad,
                           .pad_transfer = transfer_sum_grad,
                           .flops = flops<3>,
                           .samples = loss_samples<true, 1, 2, false>};

Value logits_max(Builder& b, Value logits, int64_t valid_size) {
  return b.emit(kLogitsMax, {logits}, {{Attr::valid_size, valid_size}});
}
LogitsSumResult logits_sum(Builder& b, Value logits, Value max, Value targets, int64_t valid_size) {
  const Value sum = b.emit(kLogitsSum, {logits, max, targets}, {{Attr::valid_size, valid_size}});
  return {sum, {sum.instruction, 1}};
}
Value logits_sum_grad(Builder& b, Value logits, Value max, Value targets, Value d_sum,
                      Value d_target, int64_t valid_size) {
  return b.emit(kLogitsSumGrad, {logits, max, targets, d_sum, d_target},
                {{Attr::valid_size, valid_size}});
}

CrossEntropyResult softmax_cross_entropy(Builder& b, Value logits, Value targets,
                                         int64_t valid_size) {
  const Value max = logits_max(b, logits, valid_size);
  const LogitsSumResult sums = logits_sum(b, logits, max, targets, valid_size);
  const Value lse = add(b, max, log(b, sums.sum_exp));
  return {subtract(b, lse, sums.target_logit), lse};
}

}  // namespace tessera::ops
