#include "core/ops/norm.h"

#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// All norms see x as [rows, d].
struct Rows {
  explicit Rows(const Shape& shape)
      : width(last_dim(shape)), count(width ? shape.elements() / width : 0) {}
  int64_t width, count;
};

void check_x(std::string_view op, const OpCall& call) {
  check_float(op, call, 0);
  require(call.operands[0].rank() >= 1 && last_dim(call.operands[0].shape) > 0, op,
          ": x must have a last dim, got ", call.operands[0]);
}

void check_weight(std::string_view op, const OpCall& call, int operand) {
  check_float(op, call, operand);
  require(call.operands[operand].shape == Shape{last_dim(call.operands[0].shape)}, op, ": weight ",
          call.operands[operand], " must be as long as the last dim of ", call.operands[0]);
}

TensorType statistics_type(const TensorType& x) {
  return {statistics_dtype(x.dtype), without_last(x.shape)};
}
TensorType weight_gradient_type(const TensorType& x) {
  return {statistics_dtype(x.dtype), {last_dim(x.shape)}};
}

void check_statistics(std::string_view op, const OpCall& call, int operand) {
  require(call.operands[operand] == statistics_type(call.operands[0]), op, ": statistics of ",
          call.operands[0], " must be ", statistics_type(call.operands[0]), ", not ",
          call.operands[operand]);
}

// Results from 1 on are residuals.
void refuse_cotangents(GradContext& c, std::string_view op, int results) {
  for (int result = 1; result < results; ++result)
    require(!c.has_cotangent(result), op, ": result ", result,
            " is a residual and takes no gradient");
}

// ---- layer_norm ---------------------------------------------------------------------------------

std::vector<TensorType> infer_layer_norm(const OpCall& call) {
  check_operand_count("layer_norm", call, 3);
  check_x("layer_norm", call);
  for (int operand : {1, 2}) check_weight("layer_norm", call, operand);
  const TensorType statistics = statistics_type(call.operands[0]);
  return {call.operands[0], statistics, statistics};
}

void eval_layer_norm(const OpCall& call, std::span<const HostTensor* const> operands,
                     std::span<HostTensor> results) {
  const std::vector<double> x = reals_of(*operands[0]), gamma = reals_of(*operands[1]),
                            beta = reals_of(*operands[2]);
  const double epsilon = call.attributes.number(Attr::epsilon);
  const Rows rows(operands[0]->shape());
  std::vector<double> y(x.size()), means, rstds;
  for (int64_t r = 0; r < rows.count; ++r) {
    const double* row = x.data() + r * rows.width;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < rows.width; ++i) sum += row[i];
    const double mean = sum / static_cast<double>(rows.width);
    for (int64_t i = 0; i < rows.width; ++i) squares += (row[i] - mean) * (row[i] - mean);
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(rows.width) + epsilon);
    for (int64_t i = 0; i < rows.width; ++i)
      y[r * rows.width + i] = (row[i] - mean) * rstd * gamma[i] + beta[i];
    means.push_back(mean);
    rstds.push_back(rstd);
  }
  set_reals(results[0], y);
  set_reals(results[1], means);
  set_reals(results[2], rstds);
}

std::vector<Value> grad_layer_norm(GradContext& c) {
  refuse_cotangents(c, "layer_norm", 3);
  Builder& b = c.builder();
  const auto grad =
      layer_norm_grad(b, c.operand(0), c.operand(1), c.result(1), c.result(2), c.cotangent(0));
  std::vector<Value> cotangents(3);
  if (c.needs_gradient(0)) cotangents[0] = grad.dx;
  if (c.needs_gradient(1)) cotangents[1] = as_dtype(b, grad.dgamma, c.gradient_dtype(1));
  if (c.needs_gradient(2)) cotangents[2] = as_dtype(b, grad.dbeta, c.gradient_dtype(2));
  return cotangents;
}

std::vector<TensorType> infer_layer_norm_grad(const OpCall& call) {
  check_operand_count("layer_norm_grad", call, 5);
  check_x("layer_norm_grad", call);
  check_weight("layer_norm_grad", call, 1);
  for (int operand : {2, 3}) check_statistics("layer_norm_grad", call, operand);
  check_same_shape("layer_norm_grad", call, 0, 4);
  const TensorType weight = weight_gradient_type(call.operands[0]);
  return {call.operands[0], weight, weight};
}

// With n = (x - mean) rstd and g = dy gamma:  dx = rstd (g - average(g) - n average(g n)).
void eval_layer_norm_grad(const OpCall&, std::span<const HostTensor* const> operands,
                          std::span<HostTensor> results) {
  const std::vector<double> x = reals_of(*operands[0]), gamma = reals_of(*operands[1]),
                            mean = reals_of(*operands[2]), rstd = reals_of(*operands[3]),
                            dy = reals_of(*operands[4]);
  const Rows rows(operands[0]->shape());
  const auto width = static_cast<double>(rows.width);
  std::vector<double> dx(x.size()), dgamma(gamma.size(), 0), dbeta(gamma.size(), 0);
  for (int64_t r = 0; r < rows.count; ++r) {
    const int64_t offset = r * rows.width;
    auto normal = [&](int64_t i) { return (x[offset + i] - mean[r]) * rstd[r]; };
    double sum = 0, dot = 0;
    for (int64_t i = 0; i < rows.width; ++i) {
      const double g = dy[offset + i] * gamma[i];
      sum += g;
      dot += g * normal(i);
      dgamma[i] += dy[offset + i] * normal(i);
      dbeta[i] += dy[offset + i];
    }
    for (int64_t i = 0; i < rows.width; ++i)
      dx[offset + i] =
          rstd[r] * (dy[offset + i] * gamma[i] - sum / width - normal(i) * dot / width);
  }
  set_reals(results[0], dx);
  set_reals(results[1], dgamma);
  set_reals(results[2], dbeta);
}

// ---- rms_norm -----------------------------------------------------------------------------------

std::vector<TensorType> infer_rms_norm(const OpCall& call) {
  check_operand_count("rms_norm", call, 2);
  check_x("rms_norm", call);
  check_weight("rms_norm", call, 1);
  return {call.operands[0], statistics_type(call.operands[0])};
}

void eval_rms_norm(const OpCall& call, std::span<const HostTensor* const> operands,
                   std::span<HostTensor> results) {
  const std::vector<double> x = reals_of(*operands[0]), gamma = reals_of(*operands[1]);
  const double epsilon = call.attributes.number(Attr::epsilon);
  const Rows rows(operands[0]->shape());
  std::vector<double> y(x.size()), rstds;
  for (int64_t r = 0; r < rows.count; ++r) {
    const double* row = x.data() + r * rows.width;
    double squares = 0;
    for (int64_t i = 0; i < rows.width; ++i) squares += row[i] * row[i];
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(rows.width) + epsilon);
    for (int64_t i = 0; i < rows.width; ++i) y[r * rows.width + i] = row[i] * rstd * gamma[i];
    rstds.push_back(rstd);
  }
  set_reals(results[0], y);
  set_reals(results[1], rstds);
}

std::vector<Value> grad_rms_norm(GradContext& c) {
  refuse_cotangents(c, "rms_norm", 2);
  Builder& b = c.builder();
  const auto grad = rms_norm_grad(b, c.operand(0), c.operand(1), c.result(1), c.cotangent(0));
  return {c.needs_gradient(0) ? grad.dx : Value{},
          c.needs_gradient(1) ? as_dtype(b, grad.dgamma, c.gradient_dtype(1)) : Value{}};
}

std::vector<TensorType> infer_rms_norm_grad(const OpCall& call) {
  check_operand_count("rms_norm_grad", call, 4);
  check_x("rms_norm_grad", call);
  check_weight("rms_norm_grad", call, 1);
  check_statistics("rms_norm_grad", call, 2);
  check_same_shape("rms_norm_grad", call, 0, 3);
  return {call.operands[0], weight_gradient_type(call.operands[0])};
}

// With g = dy gamma:  dx = rstd (g - x rstd^2 average(g x)).
void eval_rms_norm_grad(const OpCall&, std::span<const HostTensor* const> operands,
                        std::span<HostTensor> results) {
  const std::vector<double> x = reals_of(*operands[0]), gamma = reals_of(*operands[1]),
                            rstd = reals_of(*operands[2]), dy = reals_of(*operands[3]);
  const Rows rows(operands[0]->shape());
  std::vector<double> dx(x.size()), dgamma(gamma.size(), 0);
  for (int64_t r = 0; r < rows.count; ++r) {
    const int64_t offset = r * rows.width;
    double dot = 0;
    for (int64_t i = 0; i < rows.width; ++i) {
      dot += dy[offset + i] * gamma[i] * x[offset + i];
      dgamma[i] += dy[offset + i] * x[offset + i] * rstd[r];
    }
    const double slope = rstd[r] * rstd[r] * dot / static_cast<double>(rows.width);
    for (int64_t i = 0; i < rows.width; ++i)
      dx[offset + i] = rstd[r] * (dy[offset + i] * gamma[i] - x[offset + i] * slope);
  }
  set_reals(results[0], dx);
  set_reals(results[1], dgamma);
}

// ---- sum_of_squares -----------------------------------------------------------------------------

std::vector<TensorType> infer_sum_of_squares(const OpCall& call) {
  check_operand_count("sum_of_squares", call, 1);
  check_float("sum_of_squares", call, 0);
  return {{statistics_dtype(call.operands[0].dtype), {}}};
}

void eval_sum_of_squares(const OpCall&, std::span<const HostTensor* const> operands,
                         std::span<HostTensor> results) {
  double sum = 0;
  for (double v : reals_of(*operands[0])) sum += v * v;
  results[0].set_real(0, sum);
}

std::vector<Value> grad_sum_of_squares(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  Builder& b = c.builder();
  const Value x = c.operand(0);
  const Value slope = broadcast_scalar(b, scale(b, c.cotangent(0), 2), b.shape(x));
  return {multiply(b, x, as_dtype(b, slope, b.dtype(x)))};
}

FactorRule sum_of_squares_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  rule.operands = {dims_of(add_factors(rule, call.operands[0].shape, FactorKind::reduction))};
  rule.results = {TensorFactors{}};
  return rule;
}

// ---- shared -------------------------------------------------------------------------------------

// The batch dims are `kind`; the last one stays whole. Tensors are told apart by their ranks: x has
// all dims, statistics all but the last, weights the last alone.
template <FactorKind kind, int kStatisticsFirst, int kStatisticsCount>
FactorRule norm_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  const Shape& x = call.operands[0].shape;
  std::vector<int> all = add_factors(rule, without_last(x), kind);
  const std::vector<int> statistics = all;
  const int width = add_factor(rule, last_dim(x), FactorKind::need_replication);
  all.push_back(width);
  const bool is_gradient = kind == FactorKind::reduction;
  const int operand_count = static_cast<int>(call.operands.size());
  for (int i = 0; i < operand_count; ++i) {
    const bool is_statistic =
        is_gradient && i >= kStatisticsFirst && i < kStatisticsFirst + kStatisticsCount;
    const bool is_weight = i == 1 || (!is_gradient && i == 2);
    rule.operands.push_back(dims_of(is_statistic ? statistics
                                    : is_weight  ? std::vector<int>{width}
                                                 : all));
  }
  rule.results.push_back(dims_of(all));
  for (size_t i = 1; i < results.size(); ++i)
    rule.results.push_back(dims_of(is_gradient ? std::vector<int>{width} : statistics));
  return rule;
}

template <int kOperand>
std::vector<LinearSet> linear_in(const OpCall&) {
  return {{{kOperand}, ReduceKind::sum}};
}

template <int kPerElement>
double flops(const OpCall& call, std::span<const TensorType>) {
  return kPerElement * static_cast<double>(call.operands[0].elements());
}

// Samples of x {2,4,6} in f64, and in bf16 with f32 weights as in mixed precision.
template <int kWeights, int kStatistics, bool kIsGradient>
std::vector<OpSample> norm_samples() {
  std::vector<OpSample> samples;
  for (DType dtype : {DType::f64, DType::bf16}) {
    OpSample sample;
    const TensorType x{dtype, {2, 4, 6}}, weight{statistics_dtype(dtype), {6}},
        statistic{weight.dtype, {2, 4}};
    sample.operands = {x};
    for (int i = 0; i < kWeights; ++i) sample.operands.push_back(weight);
    for (int i = 0; i < kStatistics; ++i) sample.operands.push_back(statistic);
    if (kIsGradient)
      sample.operands.push_back(x);
    else
      sample.attributes.set(Attr::epsilon, 1e-5);
    sample.differentiable = dtype == DType::f64 && !kIsGradient;
    samples.push_back(sample);
  }
  return samples;
}

std::vector<OpSample> sum_of_squares_samples() {
  return {{{{DType::f64, {4, 6}}}, {}}, {{{DType::bf16, {4, 6}}}, {}, {}, false}};
}

}  // namespace

DType statistics_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

const OpDef kLayerNorm{.name = "layer_norm",
                       .attributes = {Attr::epsilon},
                       .infer = infer_layer_norm,
                       .eval = eval_layer_norm,
                       .grad = grad_layer_norm,
                       .factors = norm_factors<FactorKind::pass_through, 0, 0>,
                       .flops = flops<8>,
                       .samples = norm_samples<2, 0, false>};
const OpDef kLayerNormGrad{.name = "layer_norm_grad",
                           .infer = infer_layer_norm_grad,
                           .eval = eval_layer_norm_grad,
                           .factors = norm_factors<FactorKind::reduction, 2, 2>,
                           .linear = linear_in<4>,
                           .flops = flops<14>,
                           .samples = norm_samples<1, 2, true>};
const OpDef kRmsNorm{.name = "rms_norm",
                     .attributes = {Attr::epsilon},
                     .infer = infer_rms_norm,
                     .eval = eval_rms_norm,
                     .grad = grad_rms_norm,
                     .factors = norm_factors<FactorKind::pass_through, 0, 0>,
                     .flops = flops<5>,
                     .samples = norm_samples<1, 0, false>};
const OpDef kRmsNormGrad{.name = "rms_norm_grad",
                         .infer = infer_rms_norm_grad,
                         .eval = eval_rms_norm_grad,
                         .factors = norm_factors<FactorKind::reduction, 2, 1>,
                         .linear = linear_in<3>,
                         .flops = flops<10>,
                         .samples = norm_samples<1, 1, true>};
const OpDef kSumOfSquares{.name = "sum_of_squares",
                          .infer = infer_sum_of_squares,
                          .eval = eval_sum_of_squares,
                          .grad = grad_sum_of_squares,
                          .factors = sum_of_squares_factors,
                          .flops = flops<2>,
                          .samples = sum_of_squares_samples};

LayerNormResult layer_norm(Builder& b, Value x, Value gamma, Value beta, double epsilon) {
  const Value y = b.emit(kLayerNorm, {x, gamma, beta}, {{Attr::epsilon, epsilon}});
  return {y, {y.instruction, 1}, {y.instruction, 2}};
}
LayerNormGradResult layer_norm_grad(Builder& b, Value x, Value gamma, Value mean, Value rstd,
                                    Value dy) {
  const Value dx = b.emit(kLayerNormGrad, {x, gamma, mean, rstd, dy});
  return {dx, {dx.instruction, 1}, {dx.instruction, 2}};
}
RmsNormResult rms_norm(Builder& b, Value x, Value gamma, double epsilon) {
  const Value y = b.emit(kRmsNorm, {x, gamma}, {{Attr::epsilon, epsilon}});
  return {y, {y.instruction, 1}};
}
RmsNormGradResult rms_norm_grad(Builder& b, Value x, Value gamma, Value rstd, Value dy) {
  const Value dx = b.emit(kRmsNormGrad, {x, gamma, rstd, dy});
  return {dx, {dx.instruction, 1}};
}
Value sum_of_squares(Builder& b, Value x) { return b.emit(kSumOfSquares, {x}); }

}  // namespace tessera::ops
