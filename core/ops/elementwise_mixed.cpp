// The elementwise ops whose operands and result differ in type or that take attributes.
#include <cmath>
#include <limits>
#include <numbers>

#include "core/ops/elementwise_def.h"
#include "core/ops/float_order.h"

namespace tessera::ops {
namespace {

// ---- abs, is_finite -----------------------------------------------------------------------------

std::vector<TensorType> infer_abs(const OpCall& call) {
  TensorType type = infer_same_type("abs", kReals | kComplex | kSigned, 1, call)[0];
  if (type.dtype == DType::c64) type.dtype = DType::f32;
  return {type};
}

void eval_abs(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const DType dtype = call.operands[0].dtype;
  if (is_float(dtype)) return map_elements<double, [](auto v) { return std::abs(v); }, 1>(x, y[0]);
  if (dtype == DType::c64) {
    std::vector<double> sizes;
    for (const auto& v : elements_of<std::complex<double>>(*x[0])) sizes.push_back(std::abs(v));
    return set_reals(y[0], sizes);
  }
  auto wrapping_abs = [](uint64_t v) { return static_cast<int64_t>(v) < 0 ? -v : v; };
  Elements<uint64_t> values = elements_of<uint64_t>(*x[0]);
  for (uint64_t& v : values) v = wrapping_abs(v);
  set_elements<uint64_t>(y[0], values);
}

std::vector<OpSample> abs_samples() {
  return elementwise_samples(kReals | kComplex | kSigned, 1, 0.2, 1, true);
}

std::vector<TensorType> infer_is_finite(const OpCall& call) {
  TensorType type = infer_same_type("is_finite", kReals, 1, call)[0];
  return {{DType::pred, type.shape}};
}

void eval_is_finite(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  Elements<bool> finite;
  for (double v : reals_of(*x[0])) finite.push_back(std::isfinite(v));
  set_elements<bool>(y[0], finite);
}

std::vector<OpSample> is_finite_samples() { return elementwise_samples(kReals, 1, -1, 1, false); }

// ---- compare ------------------------------------------------------------------------------------

bool is_ordering(CompareDirection direction) {
  return direction != CompareDirection::eq && direction != CompareDirection::ne;
}

std::vector<TensorType> infer_compare(const OpCall& call) {
  const TensorType type =
      infer_same_type("compare", kReals | kComplex | kIntegers | kPred, 2, call)[0];
  const auto direction = call.attributes.get<CompareDirection>(Attr::direction);
  require(type.dtype != DType::c64 || !is_ordering(direction), "compare: ", type,
          " has no order \"", name_of(direction), "\"; only eq and ne");
  return {{DType::pred, type.shape}};
}

// Floats as numbers in their total order.
Elements<int64_t> ordered_bits(const HostTensor& x) {
  Elements<int64_t> ranks;
  for (double value : reals_of(x)) ranks.push_back(total_rank(value));
  return ranks;
}

template <typename D>
void compare_elements(CompareDirection direction, const Elements<D>& x, const Elements<D>& y,
                      HostTensor& result) {
  Elements<bool> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    if (!is_ordering(direction)) {
      out[i] = (x[i] == y[i]) == (direction == CompareDirection::eq);
    } else if constexpr (!std::is_same_v<D, std::complex<double>>) {
      out[i] = direction == CompareDirection::lt   ? x[i] < y[i]
               : direction == CompareDirection::le ? x[i] <= y[i]
               : direction == CompareDirection::gt ? x[i] > y[i]
                                                   : x[i] >= y[i];
    }
  }
  set_elements<bool>(result, out);
}

void eval_compare(const OpCall& call, std::span<const HostTensor* const> x,
                  std::span<HostTensor> y) {
  const auto direction = call.attributes.get<CompareDirection>(Attr::direction);
  const DType dtype = call.operands[0].dtype;
  if (is_float(dtype) && call.attributes.flag(Attr::total_order))
    compare_elements<int64_t>(direction, ordered_bits(*x[0]), ordered_bits(*x[1]), y[0]);
  else if (is_float(dtype))
    compare_elements<double>(direction, elements_of<double>(*x[0]), elements_of<double>(*x[1]),
                             y[0]);
  else if (dtype == DType::c64)
    compare_elements<std::complex<double>>(direction, elements_of<std::complex<double>>(*x[0]),
                                           elements_of<std::complex<double>>(*x[1]), y[0]);
  else if (is_signed_integer(dtype))
    compare_elements<int64_t>(direction, elements_of<int64_t>(*x[0]), elements_of<int64_t>(*x[1]),
                              y[0]);
  else
    compare_elements<uint64_t>(direction, elements_of<uint64_t>(*x[0]),
                               elements_of<uint64_t>(*x[1]), y[0]);
}

std::vector<OpSample> compare_samples() {
  std::vector<OpSample> samples;
  for (auto direction : {CompareDirection::eq, CompareDirection::ne, CompareDirection::lt,
                         CompareDirection::le, CompareDirection::gt, CompareDirection::ge}) {
    for (OpSample& sample :
         elementwise_samples(kReals | kComplex | kIntegers | kPred, 2, -1, 1, false)) {
      if (sample.operands[0].dtype == DType::c64 && is_ordering(direction)) continue;
      sample.attributes.set(Attr::direction, direction);
      samples.push_back(sample);
    }
  }
  return samples;
}

// ---- convert ------------------------------------------------------------------------------------

std::vector<TensorType> infer_convert(const OpCall& call) {
  check_operand_count("convert", call, 1);
  return {{call.attributes.get<DType>(Attr::dtype), call.operands[0].shape}};
}

void eval_convert(const OpCall& call, std::span<const HostTensor* const> x,
                  std::span<HostTensor> y) {
  y[0] = x[0]->cast(call.attributes.get<DType>(Attr::dtype));
}

std::vector<Value> grad_convert(GradContext& c) {
  if (!is_float(c.operand_type(0).dtype) || !c.needs_gradient(0)) return {Value{}};
  return {convert(c.builder(), c.cotangent(0), c.operand_type(0).dtype)};
}

// Every value of `from` is one of `to`.
bool is_widening(DType from, DType to) {
  if (from == to) return true;
  if (!is_float(from) || !is_float(to)) return false;
  if (to == DType::f64) return true;
  if (to == DType::f32) return from != DType::f64;
  return size_of(from) == 1 && (to == DType::f16 || (to == DType::bf16));
}

std::vector<LinearSet> linear_convert(const OpCall& call) {
  const DType from = call.operands[0].dtype, to = call.attributes.get<DType>(Attr::dtype);
  std::vector<LinearSet> sets;
  if (is_widening(from, to)) sets.push_back({{0}, ReduceKind::sum});
  // Rounding is monotone, so max and min pass through every conversion between floats.
  if (is_float(from) && is_float(to)) {
    sets.push_back({{0}, ReduceKind::max});
    sets.push_back({{0}, ReduceKind::min});
  }
  return sets;
}

std::vector<OpSample> convert_samples() {
  auto sample = [](DType from, DType to, bool differentiable = false) {
    return OpSample{{{from, {4, 6}}}, {{Attr::dtype, to}}, {{0, 9}}, differentiable};
  };
  return {sample(DType::f64, DType::f64, true), sample(DType::f64, DType::bf16),
          sample(DType::bf16, DType::f32),      sample(DType::f32, DType::s32),
          sample(DType::s32, DType::f64),       sample(DType::f32, DType::f8e4m3fn),
          sample(DType::pred, DType::f32),      sample(DType::f32, DType::pred),
          sample(DType::c64, DType::f32),       sample(DType::s64, DType::u8)};
}

// ---- select, clamp ------------------------------------------------------------------------------

std::vector<TensorType> infer_select(const OpCall& call) {
  check_operand_count("select", call, 3);
  require(call.operands[1] == call.operands[2], "select: both cases must have one type, got ",
          call.operands[1], " and ", call.operands[2]);
  require(call.operands[0] == TensorType{DType::pred, call.operands[1].shape},
          "select: the predicate must be pred", call.operands[1].shape, ", not ", call.operands[0]);
  return {call.operands[1]};
}

void eval_select(const OpCall& call, std::span<const HostTensor* const> x,
                 std::span<HostTensor> y) {
  const auto choose = x[0]->data<bool>();
  const auto size = static_cast<size_t>(size_of(call.operands[1].dtype));
  for (size_t i = 0; i < choose.size(); ++i) {
    const auto from = x[choose[i] ? 1 : 2]->bytes().subspan(i * size, size);
    std::copy(from.begin(), from.end(), y[0].bytes().begin() + static_cast<int64_t>(i * size));
  }
}

std::vector<Value> grad_select(GradContext& c) {
  Builder& b = c.builder();
  const Value dy = c.cotangent(0), zero = zeros_like(b, dy);
  std::vector<Value> cotangents(3);
  if (c.needs_gradient(1)) cotangents[1] = select(b, c.operand(0), dy, zero);
  if (c.needs_gradient(2)) cotangents[2] = select(b, c.operand(0), zero, dy);
  return cotangents;
}

std::vector<LinearSet> linear_select(const OpCall&) {
  return {{{1, 2}, ReduceKind::sum}, {{1, 2}, ReduceKind::max}, {{1, 2}, ReduceKind::min}};
}

std::vector<OpSample> select_samples() {
  const TensorType pred{DType::pred, {4, 6}}, real{DType::f64, {4, 6}}, whole{DType::s32, {4, 6}};
  return {{{pred, real, real}, {}}, {{pred, whole, whole}, {}, {}, false}};
}

std::vector<TensorType> infer_clamp(const OpCall& call) {
  return infer_same_type("clamp", kReals | kIntegers, 3, call);
}

template <typename D>
void clamp_elements(std::span<const HostTensor* const> x, HostTensor& y) {
  const auto low = elements_of<D>(*x[0]), high = elements_of<D>(*x[2]);
  auto values = elements_of<D>(*x[1]);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < low[i]) values[i] = low[i];
    if (values[i] > high[i]) values[i] = high[i];
  }
  set_elements<D>(y, values);
}

void eval_clamp(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  if (is_float(call.operands[0].dtype))
    clamp_elements<double>(x, y[0]);
  else if (is_signed_integer(call.operands[0].dtype))
    clamp_elements<int64_t>(x, y[0]);
  else
    clamp_elements<uint64_t>(x, y[0]);
}

std::vector<Value> grad_clamp(GradContext& c) {
  Builder& b = c.builder();
  const Value low = c.operand(0), x = c.operand(1), high = c.operand(2), dy = c.cotangent(0);
  std::vector<Value> cotangents(3);
  if (c.needs_gradient(0)) cotangents[0] = where(b, x, low, CompareDirection::lt, dy);
  if (c.needs_gradient(1))
    cotangents[1] =
        where(b, x, low, CompareDirection::ge, where(b, x, high, CompareDirection::le, dy));
  if (c.needs_gradient(2)) cotangents[2] = where(b, x, high, CompareDirection::gt, dy);
  return cotangents;
}

std::vector<OpSample> clamp_samples() {
  const TensorType real{DType::f64, {4, 6}}, whole{DType::s32, {4, 6}};
  return {{{real, real, real}, {}, {{-1, -0.4}, {-1.5, 1.5}, {0.4, 1}}},
          {{whole, whole, whole}, {}, {{0, 3}, {0, 9}, {5, 9}}, false}};
}

// ---- gelu ---------------------------------------------------------------------------------------

const double kTanhScale = std::sqrt(2 / std::numbers::pi);
constexpr double kTanhCubic = 0.044715;  // Hendrycks and Gimpel 2016, eq. (2) in its tanh form

double gelu_value(double x, bool is_approximate) {
  if (!is_approximate) return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
  return 0.5 * x * (1 + std::tanh(kTanhScale * (x + kTanhCubic * x * x * x)));
}

double gelu_slope(double x, bool is_approximate) {
  if (!is_approximate) {
    const double bell = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) + x * bell;
  }
  const double t = std::tanh(kTanhScale * (x + kTanhCubic * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kTanhScale * (1 + 3 * kTanhCubic * x * x);
}

std::vector<TensorType> infer_gelu(const OpCall& call) {
  return infer_same_type("gelu", kReals, 1, call);
}
std::vector<TensorType> infer_gelu_grad(const OpCall& call) {
  return infer_same_type("gelu_grad", kReals, 2, call);
}

void eval_gelu(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  std::vector<double> values = reals_of(*x[0]);
  for (double& v : values) v = gelu_value(v, call.attributes.flag(Attr::is_approximate));
  set_reals(y[0], values);
}

void eval_gelu_grad(const OpCall& call, std::span<const HostTensor* const> x,
                    std::span<HostTensor> y) {
  std::vector<double> values = reals_of(*x[0]);
  const std::vector<double> dy = reals_of(*x[1]);
  for (size_t i = 0; i < dy.size(); ++i)
    values[i] = dy[i] * gelu_slope(values[i], call.attributes.flag(Attr::is_approximate));
  set_reals(y[0], values);
}

std::vector<Value> grad_gelu(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  return {gelu_grad(c.builder(), c.operand(0), c.cotangent(0),
                    c.attributes().flag(Attr::is_approximate))};
}

std::vector<LinearSet> linear_gelu_grad(const OpCall&) { return {{{1}, ReduceKind::sum}}; }

template <int kArity>
std::vector<OpSample> gelu_samples() {
  std::vector<OpSample> samples;
  for (bool is_approximate : {false, true})
    for (OpSample& sample : elementwise_samples(kReals, kArity, -3, 3, kArity == 1)) {
      sample.attributes.set(Attr::is_approximate, is_approximate);
      samples.push_back(sample);
    }
  return samples;
}

double gelu_flops(const OpCall&, std::span<const TensorType> results) {
  return 10.0 * static_cast<double>(results[0].elements());
}

}  // namespace

const OpDef kAbs{.name = "abs",
                 .infer = infer_abs,
                 .eval = eval_abs,
                 .grad = grad_elementwise<decltype([](GradContext& c, Builder& b, Value dy) {
                   return multiply(b, dy, sign(b, c.operand(0)));
                 })>,
                 .samples = abs_samples,
                 .elementwise = true};
const OpDef kIsFinite{.name = "is_finite",
                      .infer = infer_is_finite,
                      .eval = eval_is_finite,
                      .samples = is_finite_samples,
                      .elementwise = true};
const OpDef kCompare{.name = "compare",
                     .attributes = {Attr::direction},
                     .optional_attributes = {Attr::total_order},
                     .infer = infer_compare,
                     .eval = eval_compare,
                     .samples = compare_samples,
                     .elementwise = true};
const OpDef kConvert{.name = "convert",
                     .attributes = {Attr::dtype},
                     .infer = infer_convert,
                     .eval = eval_convert,
                     .grad = grad_convert,
                     .linear = linear_convert,
                     .samples = convert_samples,
                     .elementwise = true};
const OpDef kSelect{.name = "select",
                    .infer = infer_select,
                    .eval = eval_select,
                    .grad = grad_select,
                    .linear = linear_select,
                    .samples = select_samples,
                    .elementwise = true};
const OpDef kClamp{.name = "clamp",
                   .infer = infer_clamp,
                   .eval = eval_clamp,
                   .grad = grad_clamp,
                   .samples = clamp_samples,
                   .elementwise = true};
const OpDef kGelu{.name = "gelu",
                  .attributes = {Attr::is_approximate},
                  .infer = infer_gelu,
                  .eval = eval_gelu,
                  .grad = grad_gelu,
                  .flops = gelu_flops,
                  .samples = gelu_samples<1>,
                  .elementwise = true};
const OpDef kGeluGrad{.name = "gelu_grad",
                      .attributes = {Attr::is_approximate},
                      .infer = infer_gelu_grad,
                      .eval = eval_gelu_grad,
                      .linear = linear_gelu_grad,
                      .flops = gelu_flops,
                      .samples = gelu_samples<2>,
                      .elementwise = true};

Value compare(Builder& b, Value x, Value y, CompareDirection direction) {
  return b.emit(kCompare, {x, y}, {{Attr::direction, direction}});
}
Value convert(Builder& b, Value x, DType dtype) {
  if (b.dtype(x) == dtype) return x;
  return b.emit(kConvert, {x}, {{Attr::dtype, dtype}});
}
Value select(Builder& b, Value pred, Value on_true, Value on_false) {
  if (b.shape(pred).rank() == 0) pred = broadcast_scalar(b, pred, b.shape(on_true));
  return b.emit(kSelect, {pred, on_true, on_false});
}
Value clamp(Builder& b, Value low, Value x, Value high) {
  if (b.shape(low).rank() == 0) low = broadcast_scalar(b, low, b.shape(x));
  if (b.shape(high).rank() == 0) high = broadcast_scalar(b, high, b.shape(x));
  return b.emit(kClamp, {low, x, high});
}
Value gelu(Builder& b, Value x, bool is_approximate) {
  return b.emit(kGelu, {x}, {{Attr::is_approximate, is_approximate}});
}
Value gelu_grad(Builder& b, Value x, Value dy, bool is_approximate) {
  return b.emit(kGeluGrad, {x, dy}, {{Attr::is_approximate, is_approximate}});
}

}  // namespace tessera::ops
