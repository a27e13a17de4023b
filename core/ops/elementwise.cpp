#include "core/ops/elementwise.h"

#include <cmath>
#include <numbers>

#include "core/ops/elementwise_def.h"
#include "core/ops/structure.h"

namespace tessera::ops {
namespace {

// Cotangents are written as the textbook has them: dx from (context, builder, dy).
using C = GradContext;
using B = Builder;

Value one_minus(B& b, Value x) { return subtract(b, constant_like(b, x, 1.0), x); }

constexpr auto truncated_divide = [](auto x, auto y) -> decltype(x) {
  using D = decltype(x);
  if constexpr (std::is_integral_v<D>) {
    if (y == 0) return static_cast<D>(-1);
    if constexpr (std::is_signed_v<D>)
      if (y == -1) return static_cast<D>(-static_cast<uint64_t>(x));  // the lowest integer wraps
  }
  return x / y;
};

constexpr auto raise = [](auto x, auto y) -> decltype(x) {
  using D = decltype(x);
  if constexpr (std::is_integral_v<D>) {
    if (y < 0) return x == 1 ? 1 : x == D(-1) ? (y % 2 ? D(-1) : D(1)) : 0;
    uint64_t result = 1, base = static_cast<uint64_t>(x);
    for (auto n = static_cast<uint64_t>(y); n; n >>= 1, base *= base)
      if (n & 1) result *= base;
    return static_cast<D>(result);
  } else {
    return std::pow(x, y);
  }
};

// NaN where either is.
constexpr auto larger = [](auto x, auto y) { return x != x || x > y ? x : y; };
constexpr auto smaller = [](auto x, auto y) { return x != x || x < y ? x : y; };

constexpr auto sign_of = [](auto x) {
  using D = decltype(x);
  if (x != x) return x;
  return x > D(0) ? D(1) : x < D(0) ? D(-1) : x;
};

constexpr auto flipped = [](auto x) -> decltype(x) {
  if constexpr (std::is_same_v<decltype(x), bool>) return !x;
  else return ~x;
};

}  // namespace

// ---- One line per op: name, function, domains, gradient; where needed the range of test inputs --

const OpDef kNegate = unary<"negate", [](auto x) { return -x; }, kNumbers>(
    [](C&, B& b, Value dy) { return negate(b, dy); }, {.linear = linear_first});
const OpDef kSign = unary<"sign", sign_of, kReals | kSigned, Range{0.2, 1}>(no_cotangent);
const OpDef kExponential = unary<"exponential", [](auto x) { return std::exp(x); }, kAnalytic>(
    [](C& c, B& b, Value dy) { return multiply(b, dy, c.result(0)); });
const OpDef kLog = unary<"log", [](auto x) { return std::log(x); }, kAnalytic, Range{0.2, 3}>(
    [](C& c, B& b, Value dy) { return divide(b, dy, c.operand(0)); });
const OpDef kTanh =
    unary<"tanh", [](auto x) { return std::tanh(x); }, kAnalytic>([](C& c, B& b, Value dy) {
      return multiply(b, dy, one_minus(b, multiply(b, c.result(0), c.result(0))));
    });
const OpDef kSqrt = unary<"sqrt", [](auto x) { return std::sqrt(x); }, kAnalytic, Range{0.2, 3}>(
    [](C& c, B& b, Value dy) { return divide(b, scale(b, dy, 0.5), c.result(0)); });
const OpDef kRsqrt =
    unary<"rsqrt", [](auto x) { return 1.0 / std::sqrt(x); }, kAnalytic, Range{0.2, 3}>(
        [](C& c, B& b, Value dy) {
          return divide(b, multiply(b, scale(b, dy, -0.5), c.result(0)), c.operand(0));
        });
const OpDef kLogistic =
    unary<"logistic", [](auto x) { return 1.0 / (1.0 + std::exp(-x)); }, kAnalytic>(
        [](C& c, B& b, Value dy) {
          return multiply(b, dy, multiply(b, c.result(0), one_minus(b, c.result(0))));
        });
const OpDef kErf =
    unary<"erf", [](auto x) { return std::erf(x); }, kReals>([](C& c, B& b, Value dy) {
      const Value bell = exponential(b, negate(b, multiply(b, c.operand(0), c.operand(0))));
      return multiply(b, scale(b, dy, 2 / std::sqrt(std::numbers::pi)), bell);
    });
const OpDef kSine = unary<"sine", [](auto x) { return std::sin(x); }, kAnalytic>(
    [](C& c, B& b, Value dy) { return multiply(b, dy, cosine(b, c.operand(0))); });
const OpDef kCosine = unary<"cosine", [](auto x) { return std::cos(x); }, kAnalytic>(
    [](C& c, B& b, Value dy) { return negate(b, multiply(b, dy, sine(b, c.operand(0)))); });
const OpDef kLogicalNot = unary<"not", flipped, kBits>(nullptr);

const OpDef kAdd = binary<"add", [](auto x, auto y) { return x + y; }, kNumbers | kPred>(
    [](C&, B&, Value dy) { return dy; }, [](C&, B&, Value dy) { return dy; },
    {.commutative = true, .linear = linear_in_sum});
const OpDef kSubtract = binary<"subtract", [](auto x, auto y) { return x - y; }, kNumbers>(
    [](C&, B&, Value dy) { return dy; }, [](C&, B& b, Value dy) { return negate(b, dy); },
    {.linear = linear_in_sum});
const OpDef kMultiply = binary<"multiply", [](auto x, auto y) { return x * y; }, kNumbers | kPred>(
    [](C& c, B& b, Value dy) { return multiply(b, dy, c.operand(1)); },
    [](C& c, B& b, Value dy) { return multiply(b, dy, c.operand(0)); },
    {.commutative = true, .linear = linear_in_each});
const OpDef kDivide =
    binary<"divide", truncated_divide, kReals | kComplex | kIntegers, Range{0.3, 2}>(
        [](C& c, B& b, Value dy) { return divide(b, dy, c.operand(1)); },
        [](C& c, B& b, Value dy) {
          return negate(b, divide(b, multiply(b, dy, c.result(0)), c.operand(1)));
        },
        {.linear = linear_first_if_inexact});
// Where both are equal, x gets the whole cotangent.
const OpDef kMaximum = binary<"maximum", larger, kReals | kIntegers | kPred>(
    [](C& c, B& b, Value dy) {
      return where(b, c.operand(0), c.operand(1), CompareDirection::ge, dy);
    },
    [](C& c, B& b, Value dy) {
      return where(b, c.operand(0), c.operand(1), CompareDirection::lt, dy);
    },
    {.commutative = true, .linear = linear_max});
const OpDef kMinimum = binary<"minimum", smaller, kReals | kIntegers | kPred>(
    [](C& c, B& b, Value dy) {
      return where(b, c.operand(0), c.operand(1), CompareDirection::le, dy);
    },
    [](C& c, B& b, Value dy) {
      return where(b, c.operand(0), c.operand(1), CompareDirection::gt, dy);
    },
    {.commutative = true, .linear = linear_min});
const OpDef kPower = binary<"power", raise, kReals | kComplex | kIntegers, Range{0.3, 2}>(
    [](C& c, B& b, Value dy) {
      const Value less = power(b, c.operand(0), add_scalar(b, c.operand(1), -1));
      return multiply(b, dy, multiply(b, c.operand(1), less));
    },
    [](C& c, B& b, Value dy) {
      return multiply(b, dy, multiply(b, c.result(0), log(b, c.operand(0))));
    });
const OpDef kLogicalAnd = binary<"and", [](auto x, auto y) -> decltype(x) { return x & y; }, kBits>(
    nullptr, nullptr, {.commutative = true});
const OpDef kLogicalOr = binary<"or", [](auto x, auto y) -> decltype(x) { return x | y; }, kBits>(
    nullptr, nullptr, {.commutative = true});

Value scale(Builder& b, Value x, double factor) {
  return multiply(b, x, constant_like(b, x, factor));
}
Value add_scalar(Builder& b, Value x, double addend) {
  return add(b, x, constant_like(b, x, addend));
}
Value silu(Builder& b, Value x) { return multiply(b, x, logistic(b, x)); }

}  // namespace tessera::ops
