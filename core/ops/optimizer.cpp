#include "core/ops/optimizer.h"

#include <cmath>

#include "core/ops/support.h"

namespace tessera::ops {
namespace {

constexpr int kTensors = 4, kScalars = 4;

std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count("adamw", call, kTensors + kScalars);
  const TensorType& param = call.operands[0];
  require(param.dtype == DType::f32 || param.dtype == DType::f64,
          "adamw: parameters must be f32 or f64, not ", param);
  for (int i = 1; i < kTensors; ++i)
    require(call.operands[i] == param, "adamw: operand ", i, " must be like the parameter ", param,
            ", not ", call.operands[i]);
  for (int i = kTensors; i < kTensors + kScalars; ++i)
    require(call.operands[i] == TensorType{param.dtype, {}}, "adamw: operand ", i, " must be ",
            param.dtype, "[] beside the parameter ", param, ", not ", call.operands[i]);
  return {param, param, param};
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> results) {
  std::vector<double> p = reals_of(*x[0]), m = reals_of(*x[1]), v = reals_of(*x[2]);
  const std::vector<double> grad = reals_of(*x[3]);
  const double rate = x[4]->get_real(0), grad_scale = x[5]->get_real(0);
  const double correction1 = x[6]->get_real(0), correction2 = x[7]->get_real(0);
  const double beta1 = call.attributes.number(Attr::beta1),
               beta2 = call.attributes.number(Attr::beta2);
  const double epsilon = call.attributes.number(Attr::epsilon),
               decay = call.attributes.number(Attr::weight_decay);
  // A step that went bad changes nothing.
  for (size_t i = 0; i < p.size() && std::isfinite(grad_scale); ++i) {
    const double g = grad[i] * grad_scale;
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    p[i] -= rate * (m[i] / correction1 / (std::sqrt(v[i] / correction2) + epsilon) + decay * p[i]);
  }
  set_reals(results[0], p);
  set_reals(results[1], m);
  set_reals(results[2], v);
}

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const TensorFactors dims = dims_of(add_factors(rule, call.operands[0].shape));
  rule.operands.assign(kTensors, dims);
  rule.operands.resize(kTensors + kScalars);
  rule.results.assign(3, dims);
  return rule;
}

// Stored tensors are zero in their padding, and remain so if the gradient is.
std::vector<PadNeed> needs(const PadFacts& facts) {
  std::vector<PadNeed> needs;
  for (int tensor = 0; tensor < kTensors; ++tensor)
    for (int d = 0; d < facts.results[0].rank(); ++d)
      needs.push_back({tensor, d, PadContent::zero});
  return needs;
}

double flops(const OpCall&, std::span<const TensorType> results) {
  return 14.0 * static_cast<double>(results[0].elements());
}

std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (DType dtype : {DType::f64, DType::f32}) {
    OpSample sample;
    sample.operands.assign(kTensors, {dtype, {4, 6}});
    sample.operands.resize(kTensors + kScalars, {dtype, {}});
    sample.attributes = {
        {Attr::beta1, 0.9}, {Attr::beta2, 0.95}, {Attr::epsilon, 1e-8}, {Attr::weight_decay, 0.1}};
    sample.ranges = {{-1, 1}, {-1, 1}, {0, 1}, {-1, 1}, {0.01, 0.1}, {0.5, 1}, {0.1, 1}, {0.05, 1}};
    sample.differentiable = false;
    samples.push_back(sample);
  }
  return samples;
}

}  // namespace

const OpDef kAdamW{.name = "adamw",
                   .attributes = {Attr::beta1, Attr::beta2, Attr::epsilon, Attr::weight_decay},
                   .infer = infer,
                   .eval = eval,
                   .factors = factors,
                   .pad_transfer = transfer_of_zeros,
                   .pad_needs = needs,
                   .flops = flops,
                   .samples = samples,
                   .alias = [](const OpCall&, int result) { return result; }};

AdamWResult adamw(Builder& b, const AdamWOperands& o, const AdamWOptions& options) {
  const Value param = b.emit(kAdamW,
                             {o.param, o.m, o.v, o.grad, o.learning_rate, o.grad_scale,
                              o.bias_correction1, o.bias_correction2},
                             {{Attr::beta1, options.beta1},
                              {Attr::beta2, options.beta2},
                              {Attr::epsilon, options.epsilon},
                              {Attr::weight_decay, options.weight_decay}});
  return {param, {param.instruction, 1}, {param.instruction, 2}};
}

}  // namespace tessera::ops
