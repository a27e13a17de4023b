#include "core/ops/dropout.h"

#include <algorithm>
#include <cmath>

#include "core/ops/philox.h"
#include "core/ops/random.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

constexpr int kOwn = 3;

std::vector<TensorType> infer(const OpCall& call) {
  require(call.operands.size() >= kOwn, "dropout: takes x, step and row, not ", types_text(call.operands));
  check_float("dropout", call, 0);
  const TensorType& x = call.operands[0];
  require(x.rank() > 0, "dropout: x needs a dim, not ", x);
  for (size_t i = 1; i < call.operands.size(); ++i)
    require(call.operands[i] == TensorType{DType::s64, {}}, "dropout: operand ", i, " must be s64[], not ",
            call.operands[i]);
  const double rate = call.attributes.number(Attr::rate);
  require(rate >= 0 && rate < 1, "dropout: the rate is ", rate, "; it must be at least 0 and below 1");
  require(static_cast<int>(dropout_strides(call).size()) == x.rank(), "dropout: strides [",
          join(dropout_strides(call), ","), "] for ", x);
  const size_t starts = call.operands.size() - kOwn;
  require(starts == dropout_start_strides(call).size(), "dropout: ", starts, " starts for ", x, " with strides [",
          join(dropout_strides(call), ","), "]");
  return {x};
}

void eval(const OpCall& call, std::span<const HostTensor* const> operands, std::span<HostTensor> results) {
  const Ints strides = dropout_strides(call), steps = dropout_start_strides(call);
  int64_t first = operands[2]->get_int(0) * strides[0];
  for (size_t i = 0; i < steps.size(); ++i) first += operands[kOwn + i]->get_int(0) * steps[i];
  const auto seed = static_cast<uint64_t>(call.attributes.integer(Attr::seed)),
             site = static_cast<uint64_t>(call.attributes.integer(Attr::seed_site)),
             step = static_cast<uint64_t>(operands[1]->get_int(0));
  const double rate = call.attributes.number(Attr::rate), scale = dropout_scale(rate);
  const uint32_t threshold = dropout_threshold(rate);
  std::vector<double> values = reals_of(*operands[0]);
  const Shape& shape = results[0].shape();
  walk(shape, strides, shape.strides(), [&](int64_t index, int64_t at) {
    const bool is_kept = step_bits_of(seed, site, step, static_cast<uint64_t>(first + index)) >= threshold;
    double& value = values[static_cast<size_t>(at)];
    value = is_kept ? value * scale : 0;
  });
  set_reals(results[0], values);
}

std::vector<Value> grad(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  if (!c.needs_gradient(0)) return cotangents;
  std::vector<Value> operands{c.cotangent(0)};
  for (int i = 1; i < c.operand_count(); ++i) operands.push_back(c.operand(i));
  cotangents[0] = c.builder().emit(kDropout, operands, c.attributes());
  return cotangents;
}

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> each;
  for (int64_t size : call.operands[0].shape)
    each.push_back(add_factor(rule, size, FactorKind::pass_through, ReduceKind::sum, true));
  const TensorFactors dims = dims_of(each);
  rule.operands = {dims, {}, {}};
  rule.results = {dims};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear(const OpCall&) { return {{{0}}}; }

Attributes localize(const OpCall& global, std::span<const TensorType>, std::span<const TensorType>) {
  Attributes local = global.attributes;
  local.set(Attr::strides, dropout_strides(global));
  return local;
}

// A block of Philox for eight elements, and a product.
double flops(const OpCall&, std::span<const TensorType> results) {
  return 14.0 * static_cast<double>(results[0].elements());
}

std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (const TensorType& x : {TensorType{DType::f64, {4, 6}}, {DType::f64, {2, 1, 12}}, {DType::f32, {4, 3}}})
    samples.push_back({.operands = {x, {DType::s64, {}}, {DType::s64, {}}},
                       .attributes = {{Attr::rate, 0.25}, {Attr::seed, int64_t{7}}, {Attr::seed_site, kDropoutSites}},
                       .ranges = {{-1, 1}, {0, 1000}, {0, 8}}});
  return samples;
}

}  // namespace

uint32_t dropout_threshold(double rate) {
  return static_cast<uint32_t>(std::min(std::lround(rate * 65536), 65535L));
}
double dropout_scale(double rate) { return 65536.0 / (65536.0 - dropout_threshold(rate)); }

Ints dropout_strides(const OpCall& call) {
  return call.attributes.has(Attr::strides) ? call.attributes.ints(Attr::strides) : call.operands[0].shape.strides();
}
Ints dropout_start_strides(const OpCall& call) {
  return strides_of_starts(dropout_strides(call), call.operands.size() - std::min<size_t>(kOwn, call.operands.size()));
}

const OpDef kDropout{.name = "dropout",
                     .attributes = {Attr::rate, Attr::seed, Attr::seed_site},
                     .optional_attributes = {Attr::strides},
                     .infer = infer,
                     .eval = eval,
                     .grad = grad,
                     .factors = factors,
                     .linear = linear,
                     .localize = localize,
                     .pad_transfer = transfer_of_zeros,
                     .flops = flops,
                     .samples = samples};

Value dropout(Builder& b, Value x, Value step, Value row, const DropoutOptions& options) {
  return b.emit(kDropout, {x, step, row},
                {{Attr::rate, options.rate}, {Attr::seed, options.seed}, {Attr::seed_site, options.site}});
}

}  // namespace tessera::ops
