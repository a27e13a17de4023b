#include "core/ops/elementwise_bits.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/ops/elementwise_def.h"

namespace tessera::ops {
namespace {

template <typename T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

// An op of one or two integers of one width: unlike the domains of elementwise_def.h, the function
// sees the element type itself.
template <OpName kName, auto kFunction, int kArity>
OpDef integer_op() {
  OpDef op;
  op.name = kName.text;
  op.infer = [](const OpCall& call) {
    return infer_same_type(kName.text, kIntegers, kArity, call);
  };
  op.eval = [](const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
    dispatch_dtype(call.operands[0].dtype, [&]<typename T>() {
      if constexpr (kIsInteger<T>) {
        const auto a = x[0]->template data<T>();
        const auto out = y[0].template data<T>();
        for (size_t i = 0; i < a.size(); ++i) {
          if constexpr (kArity == 1)
            out[i] = kFunction(a[i]);
          else
            out[i] = kFunction(a[i], x[1]->template data<T>()[i]);
        }
      }
    });
  };
  op.samples = [] {
    std::vector<OpSample> samples;
    for (DType dtype : {DType::s32, DType::u8, DType::s64, DType::s16}) {
      const bool is_signed = is_signed_integer(dtype);
      OpSample sample{std::vector<TensorType>(kArity, {dtype, {4, 6}}),
                      {},
                      {{is_signed ? -100 : 0, 100}, {is_signed ? -1 : 0, 9}},
                      false};
      samples.push_back(sample);
    }
    return samples;
  };
  op.elementwise = true;
  return op;
}

template <typename T>
using Unsigned = std::make_unsigned_t<T>;

constexpr auto shifted_left = []<typename T>(T x, T places) -> T {
  const auto by = static_cast<Unsigned<T>>(places);
  if (by >= std::numeric_limits<Unsigned<T>>::digits) return 0;
  return static_cast<T>(static_cast<Unsigned<T>>(x) << by);
};
constexpr auto shifted_right = []<typename T>(T x, T places) -> T {
  const auto by = static_cast<Unsigned<T>>(places);
  if (by >= std::numeric_limits<Unsigned<T>>::digits) return 0;
  return static_cast<T>(static_cast<Unsigned<T>>(x) >> by);
};
constexpr auto shifted_with_sign = []<typename T>(T x, T places) -> T {
  using S = std::make_signed_t<T>;
  constexpr int kLast = std::numeric_limits<Unsigned<T>>::digits - 1;
  const auto by = static_cast<Unsigned<T>>(places);
  return static_cast<T>(static_cast<S>(x) >> (by > kLast ? kLast : static_cast<int>(by)));
};
constexpr auto set_bits = []<typename T>(T x) -> T {
  return static_cast<T>(std::popcount(static_cast<Unsigned<T>>(x)));
};
constexpr auto leading_zeros = []<typename T>(T x) -> T {
  return static_cast<T>(std::countl_zero(static_cast<Unsigned<T>>(x)));
};

// ---- bitcast_convert ----------------------------------------------------------------------------

std::vector<TensorType> infer_bitcast(const OpCall& call) {
  check_operand_count("bitcast_convert", call, 1);
  const TensorType& x = call.operands[0];
  const auto dtype = call.attributes.get<DType>(Attr::dtype);
  auto has_bits = [](DType d) { return is_float(d) || is_integer(d); };
  require(has_bits(x.dtype) && has_bits(dtype), "bitcast_convert: not from ", x, " to ", dtype);
  const int64_t from = size_of(x.dtype), to = size_of(dtype);
  Shape shape = x.shape;
  if (from > to) shape.push_back(from / to);
  if (from < to) {
    require(x.rank() > 0 && last_dim(x.shape) == to / from, "bitcast_convert: to ", dtype,
            " the last dim of ", x, " must be ", to / from);
    shape = without_last(shape);
  }
  return {{dtype, shape}};
}

void eval_bitcast(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  std::copy(x[0]->bytes().begin(), x[0]->bytes().end(), y[0].bytes().begin());
}

FactorRule bitcast_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  const Shape &from = call.operands[0].shape, &to = results[0].shape;
  const Shape& shared = from.rank() < to.rank() ? from : to;
  std::vector<int> operand = add_factors(rule, shared), result = operand;
  if (from.rank() > to.rank())
    operand.push_back(add_factor(rule, last_dim(from), FactorKind::need_replication));
  if (to.rank() > from.rank())
    result.push_back(add_factor(rule, last_dim(to), FactorKind::need_replication));
  rule.operands = {dims_of(operand)};
  rule.results = {dims_of(result)};
  return rule;
}

std::vector<OpSample> bitcast_samples() {
  auto sample = [](DType from, Shape shape, DType to) {
    return OpSample{{{from, shape}}, {{Attr::dtype, to}}, {{0, 9}}, false};
  };
  return {sample(DType::f32, {4, 6}, DType::s32), sample(DType::s32, {4, 6}, DType::u8),
          sample(DType::s16, {4, 6, 2}, DType::u32), sample(DType::s64, {4}, DType::s32)};
}

// ---- reduce_precision ---------------------------------------------------------------------------

struct FloatFormat {
  int exponent_bits, mantissa_bits;
};
FloatFormat format_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return {11, 52};
    case DType::f32:
      return {8, 23};
    case DType::f16:
      return {5, 10};
    case DType::bf16:
      return {8, 7};
    case DType::f8e4m3fn:
      return {4, 3};
    default:
      return {5, 2};
  }
}

double reduced(double x, FloatFormat source, FloatFormat target) {
  if (x == 0 || !std::isfinite(x)) return x;
  const bool is_narrower = target.exponent_bits < source.exponent_bits;
  const int bias = (1 << (target.exponent_bits - 1)) - 1;
  const int source_min = 2 - (1 << (source.exponent_bits - 1));  // exponent of the smallest normal
  if (target.mantissa_bits < source.mantissa_bits) {
    const int unit = std::max(std::ilogb(x), source_min) - target.mantissa_bits;
    x = std::ldexp(std::nearbyint(std::ldexp(x, -unit)), unit);
  }
  if (!is_narrower || x == 0) return x;
  if (std::ilogb(x) > bias) return std::copysign(std::numeric_limits<double>::infinity(), x);
  return std::ilogb(x) < 1 - bias ? std::copysign(0.0, x) : x;
}

std::vector<TensorType> infer_reduce_precision(const OpCall& call) {
  const TensorType type = infer_same_type("reduce_precision", kReals, 1, call)[0];
  const int64_t exponent = call.attributes.integer(Attr::exponent_bits),
                mantissa = call.attributes.integer(Attr::mantissa_bits);
  require(exponent >= 1 && exponent <= 11 && mantissa >= 0, "reduce_precision: exponent_bits ",
          exponent, " and mantissa_bits ", mantissa, " for ", type);
  return {type};
}

void eval_reduce_precision(const OpCall& call, std::span<const HostTensor* const> x,
                           std::span<HostTensor> y) {
  const FloatFormat source = format_of(call.operands[0].dtype);
  const FloatFormat target{static_cast<int>(call.attributes.integer(Attr::exponent_bits)),
                           static_cast<int>(call.attributes.integer(Attr::mantissa_bits))};
  std::vector<double> values = reals_of(*x[0]);
  for (double& value : values) value = reduced(value, source, target);
  set_reals(y[0], values);
}

std::vector<Value> grad_reduce_precision(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  return {reduce_precision(c.builder(), c.cotangent(0), c.attributes().integer(Attr::exponent_bits),
                           c.attributes().integer(Attr::mantissa_bits))};
}

// Rounding is monotone.
std::vector<LinearSet> linear_monotone(const OpCall&) {
  return {{{0}, ReduceKind::max}, {{0}, ReduceKind::min}};
}

std::vector<OpSample> reduce_precision_samples() {
  std::vector<OpSample> samples;
  for (OpSample& sample : elementwise_samples(kReals, 1, -3, 3, false)) {
    sample.attributes = {{Attr::exponent_bits, int64_t{5}}, {Attr::mantissa_bits, int64_t{2}}};
    samples.push_back(sample);
  }
  return samples;
}

}  // namespace

const OpDef kShiftLeft = integer_op<"shift_left", shifted_left, 2>();
const OpDef kShiftRightArithmetic = integer_op<"shift_right_arithmetic", shifted_with_sign, 2>();
const OpDef kShiftRightLogical = integer_op<"shift_right_logical", shifted_right, 2>();
const OpDef kPopcnt = integer_op<"popcnt", set_bits, 1>();
const OpDef kCountLeadingZeros = integer_op<"count_leading_zeros", leading_zeros, 1>();
const OpDef kLogicalXor = binary<"xor", [](auto x, auto y) -> decltype(x) { return x ^ y; }, kBits>(
    nullptr, nullptr, {.commutative = true});
const OpDef kBitcastConvert{.name = "bitcast_convert",
                            .attributes = {Attr::dtype},
                            .infer = infer_bitcast,
                            .eval = eval_bitcast,
                            .factors = bitcast_factors,
                            .flops = no_flops,
                            .samples = bitcast_samples};
const OpDef kReducePrecision{.name = "reduce_precision",
                             .attributes = {Attr::exponent_bits, Attr::mantissa_bits},
                             .infer = infer_reduce_precision,
                             .eval = eval_reduce_precision,
                             .grad = grad_reduce_precision,
                             .linear = linear_monotone,
                             .samples = reduce_precision_samples,
                             .elementwise = true};

Value shift_left(Builder& b, Value x, Value places) { return b.emit(kShiftLeft, {x, places}); }
Value shift_right_arithmetic(Builder& b, Value x, Value places) {
  return b.emit(kShiftRightArithmetic, {x, places});
}
Value shift_right_logical(Builder& b, Value x, Value places) {
  return b.emit(kShiftRightLogical, {x, places});
}
Value popcnt(Builder& b, Value x) { return b.emit(kPopcnt, {x}); }
Value count_leading_zeros(Builder& b, Value x) { return b.emit(kCountLeadingZeros, {x}); }
Value logical_xor(Builder& b, Value x, Value y) { return b.emit(kLogicalXor, {x, y}); }
Value bitcast_convert(Builder& b, Value x, DType dtype) {
  if (b.dtype(x) == dtype) return x;
  return b.emit(kBitcastConvert, {x}, {{Attr::dtype, dtype}});
}
Value reduce_precision(Builder& b, Value x, int64_t exponent_bits, int64_t mantissa_bits) {
  return b.emit(kReducePrecision, {x},
                {{Attr::exponent_bits, exponent_bits}, {Attr::mantissa_bits, mantissa_bits}});
}

}  // namespace tessera::ops
