#include "core/ops/optimizer.h"

#include <cmath>

#include "core/ops/norm.h"
#include "core/ops/philox.h"
#include "core/ops/random.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

constexpr size_t kTensors = 4, kScalars = 4, kResults = 3;

bool is_multi(const OpCall& call) { return call.attributes.has(Attr::weight_decays); }
bool is_stochastic(const OpCall& call) { return call.attributes.has(Attr::seed); }

size_t tensors_of(const OpCall& call) {
  if (!is_multi(call)) return 1;
  return static_cast<size_t>(call.attributes.get<ConstTensor>(Attr::weight_decays)->elements());
}

// ---- adamw and multi_adamw ----------------------------------------------------------------------

void check_state(const OpCall& call, size_t tensor, std::string_view name) {
  const TensorType& grad = call.operands[operand_of(tensor, 3)];
  require(grad.dtype == DType::f32 || grad.dtype == DType::f64,
          name, ": gradients must be f32 or f64, not ", grad);
  for (size_t part = 0; part < kResults; ++part) {
    const TensorType& state = call.operands[operand_of(tensor, part)];
    require(state.shape == grad.shape && (state.dtype == grad.dtype || state.dtype == DType::bf16),
            name, ": operand ", operand_of(tensor, part), " must be like the gradient ", grad,
            " or bf16, not ", state);
  }
  const DType m = call.operands[operand_of(tensor, 1)].dtype, v = call.operands[operand_of(tensor, 2)].dtype;
  require(m == v, name, ": the moments must have one type, not ", m, " and ", v);
}

std::vector<TensorType> infer(const OpCall& call) {
  const std::string_view name = is_multi(call) ? "multi_adamw" : "adamw";
  const size_t count = tensors_of(call), scalars = operand_of(count, 0);
  const size_t own = scalars + kScalars + (is_stochastic(call) ? 1 : 0);
  require(count > 0 && call.operands.size() >= own, name, ": takes ", own, " operands, not ", call.operands.size());
  if (is_multi(call) && is_stochastic(call))
    require(call.attributes.ints(Attr::seed_sites).size() == count &&
                call.attributes.ints(Attr::start_counts).size() == count,
            name, ": needs a site and a number of starts for each of ", count, " tensors");
  std::vector<TensorType> results;
  for (size_t t = 0; t < count; ++t) {
    check_state(call, t, name);
    for (size_t part = 0; part < kResults; ++part) {
      results.push_back(call.operands[operand_of(t, part)]);
      require(results.back().dtype == results[part].dtype, name, ": tensor ", t, " must be of the type of the first, ",
              results[part].dtype, ", not ", results.back());
    }
  }
  const DType real = call.operands[3].dtype;
  for (size_t i = scalars; i < scalars + kScalars; ++i)
    require(call.operands[i] == TensorType{real, {}}, name, ": operand ", i, " must be ", real,
            "[] beside the gradient ", call.operands[3], ", not ", call.operands[i]);
  for (size_t i = scalars + kScalars; i < call.operands.size(); ++i)
    require(call.operands[i] == TensorType{DType::s64, {}}, name, ": operand ", i, " must be s64[], not ",
            call.operands[i]);
  size_t starts = 0;
  for (const AdamWLayout::Tensor& tensor : adamw_layout(call).tensors) starts += tensor.start_strides.size();
  require(call.operands.size() == own + starts, name, ": takes ", own + starts, " operands, not ",
          call.operands.size());
  return results;
}

struct Scalars {
  double rate, grad_scale, correction1, correction2;
};

// Writes one state tensor; to bf16 with the bits of the draw.
void set_state(HostTensor& result, const std::vector<double>& values, const AdamWLayout& layout,
               const AdamWLayout::Tensor& tensor, size_t part, std::span<const HostTensor* const> x) {
  if (!layout.seed || result.dtype() != DType::bf16) return set_reals(result, values);
  int64_t first = 0;
  for (size_t i = 0; i < tensor.start_strides.size(); ++i)
    first += x[tensor.first_start + i]->get_int(0) * tensor.start_strides[i];
  const auto seed = static_cast<uint64_t>(*layout.seed), site = static_cast<uint64_t>(tensor.site) + part;
  const auto step = static_cast<uint64_t>(x[layout.scalars + kScalars]->get_int(0));
  const std::span<bfloat16> to = result.data<bfloat16>();
  walk(result.shape(), tensor.strides, result.shape().strides(), [&](int64_t index, int64_t at) {
    to[static_cast<size_t>(at)].bits =
        round_stochastically(static_cast<float>(values[static_cast<size_t>(at)]),
                             step_bits_of(seed, site, step, static_cast<uint64_t>(first + index)));
  });
}

void eval_tensor(const OpCall& call, const AdamWLayout& layout, size_t t, const Scalars& s,
                 std::span<const HostTensor* const> x, std::span<HostTensor> results) {
  const AdamWLayout::Tensor& tensor = layout.tensors[t];
  const auto operand = [&](size_t part) { return reals_of(*x[operand_of(t, part)]); };
  std::vector<double> p = operand(0), m = operand(1), v = operand(2);
  const std::vector<double> grad = operand(3);
  const double beta1 = call.attributes.number(Attr::beta1),
               beta2 = call.attributes.number(Attr::beta2);
  const double epsilon = call.attributes.number(Attr::epsilon);
  for (size_t i = 0; i < p.size(); ++i) {
    const double g = grad[i] * s.grad_scale;
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    p[i] -= s.rate * (m[i] / s.correction1 / (std::sqrt(v[i] / s.correction2) + epsilon) +
                      tensor.weight_decay * p[i]);
  }
  set_state(results[result_of(t, 0)], p, layout, tensor, 0, x);
  set_state(results[result_of(t, 1)], m, layout, tensor, 1, x);
  set_state(results[result_of(t, 2)], v, layout, tensor, 2, x);
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> results) {
  const AdamWLayout layout = adamw_layout(call);
  const auto scalar = [&](size_t i) { return x[layout.scalars + i]->get_real(0); };
  const Scalars scalars{scalar(0), scalar(1), scalar(2), scalar(3)};
  for (size_t t = 0; t < layout.tensors.size(); ++t) {
    if (std::isfinite(scalars.grad_scale)) {
      eval_tensor(call, layout, t, scalars, x, results);
      continue;
    }
    // A step that went bad changes nothing.
    for (size_t part = 0; part < kResults; ++part) results[result_of(t, part)] = *x[operand_of(t, part)];
  }
}

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> each;
  for (int64_t size : call.operands[0].shape)
    each.push_back(add_factor(rule, size, FactorKind::pass_through, ReduceKind::sum, is_stochastic(call)));
  const TensorFactors dims = dims_of(each);
  rule.operands.assign(kTensors, dims);
  rule.operands.resize(kTensors + kScalars + (is_stochastic(call) ? 1 : 0));
  rule.results.assign(kResults, dims);
  add_starts(rule, call);
  return rule;
}

Attributes localize(const OpCall& global, std::span<const TensorType>, std::span<const TensorType>) {
  Attributes local = global.attributes;
  if (is_stochastic(global)) local.set(Attr::strides, adamw_layout(global).tensors[0].strides);
  return local;
}

// Stored tensors are zero in their padding, and remain so if the gradient is.
std::vector<PadNeed> needs(const PadFacts& facts) {
  std::vector<PadNeed> needs;
  for (size_t tensor = 0; tensor < kTensors; ++tensor)
    for (int d = 0; d < facts.results[0].rank(); ++d)
      needs.push_back({static_cast<int>(tensor), d, PadContent::zero});
  return needs;
}

double flops(const OpCall&, std::span<const TensorType> results) {
  double elements = 0;
  for (size_t i = 0; i < results.size(); i += kResults) elements += static_cast<double>(results[i].elements());
  return 14.0 * elements;
}

const std::pair<double, double> kSigned{-1, 1}, kPositive{0, 1}, kStepRange{0, 1000};
const std::vector<std::pair<double, double>> kScalarRanges = {{0.01, 0.1}, {0.5, 1}, {0.1, 1}, {0.05, 1}};

// `shapes`: one for each tensor.
OpSample sample_of(DType real, DType param, DType moments, const std::vector<Shape>& shapes, bool is_stochastic) {
  OpSample sample;
  for (const Shape& shape : shapes) {
    for (DType dtype : {param, moments, moments, real}) sample.operands.push_back({dtype, shape});
    for (const auto& range : {kSigned, kSigned, kPositive, kSigned}) sample.ranges.push_back(range);
  }
  sample.operands.resize(sample.operands.size() + kScalars, {real, {}});
  sample.ranges.insert(sample.ranges.end(), kScalarRanges.begin(), kScalarRanges.end());
  sample.attributes = {{Attr::beta1, 0.9}, {Attr::beta2, 0.95}, {Attr::epsilon, 1e-8}};
  if (is_stochastic) {
    sample.operands.push_back({DType::s64, {}});
    sample.ranges.push_back(kStepRange);
    sample.attributes.set(Attr::seed, int64_t{7});
  }
  sample.differentiable = false;
  return sample;
}

std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (DType real : {DType::f64, DType::f32}) {
    samples.push_back(sample_of(real, real, real, {{4, 6}}, false));
    samples.push_back(sample_of(real, DType::bf16, real, {{4, 6}}, false));
    samples.push_back(sample_of(real, real, DType::bf16, {{4, 6}}, true));
  }
  for (OpSample& sample : samples) {
    sample.attributes.set(Attr::weight_decay, 0.1);
    if (sample.attributes.has(Attr::seed)) sample.attributes.set(Attr::seed_site, int64_t{3});
  }
  return samples;
}

ConstTensor constant_of(const std::vector<double>& values) {
  return std::make_shared<const HostTensor>(
      HostTensor::of<double>({static_cast<int64_t>(values.size())}, values));
}

std::vector<OpSample> multi_samples() {
  std::vector<OpSample> samples;
  for (DType moments : {DType::f32, DType::bf16}) {
    OpSample sample = sample_of(DType::f32, DType::f32, moments, {{4, 6}, {}}, moments == DType::bf16);
    sample.attributes.set(Attr::weight_decays, constant_of({0.1, 0}));
    if (moments == DType::bf16) {
      sample.attributes.set(Attr::seed_sites, Ints{0, 3});
      sample.attributes.set(Attr::strides, Ints{6, 1});
      sample.attributes.set(Attr::start_counts, Ints{0, 0});
    }
    samples.push_back(sample);
  }
  return samples;
}

std::vector<PadNeed> no_needs(const PadFacts&) { return {}; }

// ---- multi_sum_of_squares -----------------------------------------------------------------------

std::vector<TensorType> infer_squares(const OpCall& call) {
  require(!call.operands.empty(), "multi_sum_of_squares: needs an operand");
  std::vector<TensorType> results;
  for (const TensorType& operand : call.operands) {
    require(operand.dtype == call.operands[0].dtype, "multi_sum_of_squares: operands of ",
            call.operands[0].dtype, " and ", operand.dtype);
    require(is_float(operand.dtype), "multi_sum_of_squares: operands must be floats, not ", operand);
    results.push_back(kSumOfSquares.infer({{&operand, 1}, call.attributes})[0]);
  }
  return results;
}

void eval_squares(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> results) {
  for (size_t i = 0; i < x.size(); ++i)
    kSumOfSquares.eval({call.operands.subspan(i, 1), call.attributes}, x.subspan(i, 1), results.subspan(i, 1));
}

double squares_flops(const OpCall& call, std::span<const TensorType>) {
  double elements = 0;
  for (const TensorType& operand : call.operands) elements += static_cast<double>(operand.elements());
  return 2 * elements;
}

std::vector<OpSample> squares_samples() {
  const auto types = [](DType dtype) {
    return std::vector<TensorType>{{dtype, {4, 6}}, {dtype, {5}}, {dtype, {}}};
  };
  return {{.operands = types(DType::f64), .attributes = {}, .differentiable = false},
          {.operands = types(DType::bf16), .attributes = {}, .differentiable = false}};
}

}  // namespace

AdamWLayout adamw_layout(const OpCall& call) {
  AdamWLayout layout;
  const Attributes& attributes = call.attributes;
  const size_t count = tensors_of(call);
  layout.scalars = operand_of(count, 0);
  if (is_stochastic(call)) layout.seed = attributes.integer(Attr::seed);
  size_t next_start = layout.scalars + kScalars + (layout.seed ? 1 : 0);
  auto stride = attributes.has(Attr::strides) ? attributes.ints(Attr::strides).begin() : Ints::const_iterator();
  for (size_t t = 0; t < count; ++t) {
    AdamWLayout::Tensor tensor;
    tensor.weight_decay = is_multi(call) ? attributes.get<ConstTensor>(Attr::weight_decays)->get_real(static_cast<int64_t>(t))
                                         : attributes.number(Attr::weight_decay);
    if (layout.seed) {
      const Shape& shape = call.operands[operand_of(t, 0)].shape;
      tensor.site = is_multi(call) ? attributes.ints(Attr::seed_sites).at(t) : attributes.integer(Attr::seed_site);
      tensor.strides = shape.strides();
      if (attributes.has(Attr::strides))
        for (int64_t& own : tensor.strides) own = *stride++;
      const size_t starts = is_multi(call) ? static_cast<size_t>(attributes.ints(Attr::start_counts).at(t))
                                           : call.operands.size() - std::min(call.operands.size(), next_start);
      tensor.first_start = next_start;
      tensor.start_strides = strides_of_starts(tensor.strides, starts);
      next_start += starts;
    }
    layout.tensors.push_back(std::move(tensor));
  }
  return layout;
}

const OpDef kAdamW{.name = "adamw",
                   .attributes = {Attr::beta1, Attr::beta2, Attr::epsilon, Attr::weight_decay},
                   .optional_attributes = {Attr::seed, Attr::seed_site, Attr::strides},
                   .infer = infer,
                   .eval = eval,
                   .factors = factors,
                   .localize = localize,
                   .pad_transfer = transfer_of_zeros,
                   .pad_needs = needs,
                   .flops = flops,
                   .samples = samples,
                   .alias = [](const OpCall&, int result) { return result; }};

const OpDef kMultiAdamW{
    .name = "multi_adamw",
    .attributes = {Attr::beta1, Attr::beta2, Attr::epsilon, Attr::weight_decays},
    .optional_attributes = {Attr::seed, Attr::seed_sites, Attr::strides, Attr::start_counts},
    .infer = infer,
    .eval = eval,
    .pad_transfer = transfer_of_zeros,
    .pad_needs = no_needs,
    .flops = flops,
    .samples = multi_samples,
    .alias = [](const OpCall&, int result) {
      return result / static_cast<int>(kResults) * static_cast<int>(kTensors) + result % static_cast<int>(kResults);
    }};

const OpDef kMultiSumOfSquares{.name = "multi_sum_of_squares",
                               .infer = infer_squares,
                               .eval = eval_squares,
                               .flops = squares_flops,
                               .samples = squares_samples};

AdamWResult adamw(Builder& b, const AdamWOperands& o, const AdamWOptions& options) {
  std::vector<Value> operands = {o.param, o.m, o.v, o.grad, o.learning_rate, o.grad_scale,
                                 o.bias_correction1, o.bias_correction2};
  Attributes attributes = {{Attr::beta1, options.beta1},
                           {Attr::beta2, options.beta2},
                           {Attr::epsilon, options.epsilon},
                           {Attr::weight_decay, options.weight_decay}};
  if (options.rounding) {
    operands.push_back(o.step);
    attributes.set(Attr::seed, options.rounding->seed);
    attributes.set(Attr::seed_site, options.rounding->site);
  }
  const Value param = b.emit(kAdamW, operands, std::move(attributes));
  return {param, {param.instruction, 1}, {param.instruction, 2}};
}

}  // namespace tessera::ops
