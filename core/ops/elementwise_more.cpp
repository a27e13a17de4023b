// Rounding, remainders and the rarer functions of the elementwise set.
#include <cmath>

#include "core/ops/elementwise_def.h"

namespace tessera::ops {
namespace {

using C = GradContext;
using B = Builder;

template <typename D>
constexpr bool kIsReal = std::is_same_v<D, double>;

constexpr auto cube_root = [](auto x) -> decltype(x) {
  if constexpr (kIsReal<decltype(x)>)
    return std::cbrt(x);
  else
    return std::pow(x, 1.0 / 3.0);
};
constexpr auto exp_minus_one = [](auto x) -> decltype(x) {
  if constexpr (kIsReal<decltype(x)>)
    return std::expm1(x);
  else
    return std::exp(x) - 1.0;
};
constexpr auto log_of_one_plus = [](auto x) -> decltype(x) {
  if constexpr (kIsReal<decltype(x)>)
    return std::log1p(x);
  else
    return std::log(1.0 + x);
};
// The sign of the dividend; x where the divisor is 0, as StableHLO leaves open.
constexpr auto remainder_of = [](auto x, auto y) -> decltype(x) {
  using D = decltype(x);
  if constexpr (std::is_integral_v<D>) {
    if (y == 0) return x;
    if constexpr (std::is_signed_v<D>)
      if (y == -1) return 0;
    return x % y;
  } else {
    return std::fmod(x, y);
  }
};

Value square_sum(B& b, Value x, Value y) { return add(b, multiply(b, x, x), multiply(b, y, y)); }
Value truncated(B& b, Value x) { return multiply(b, sign(b, x), floor(b, abs(b, x))); }

}  // namespace

const OpDef kFloor =
    unary<"floor", [](auto x) { return std::floor(x); }, kReals, Range{0.2, 0.9}>(no_cotangent);
const OpDef kCeil =
    unary<"ceil", [](auto x) { return std::ceil(x); }, kReals, Range{0.2, 0.9}>(no_cotangent);
const OpDef kRoundNearestEven =
    unary<"round_nearest_even", [](auto x) { return std::nearbyint(x); }, kReals, Range{0.1, 0.4}>(
        no_cotangent);
const OpDef kRoundNearestAfz =
    unary<"round_nearest_afz", [](auto x) { return std::round(x); }, kReals, Range{0.1, 0.4}>(
        no_cotangent);
const OpDef kCbrt = unary<"cbrt", cube_root, kAnalytic, Range{0.2, 2}>([](C& c, B& b, Value dy) {
  return divide(b, dy, scale(b, multiply(b, c.result(0), c.result(0)), 3));
});
const OpDef kExponentialMinusOne = unary<"exponential_minus_one", exp_minus_one, kAnalytic>(
    [](C& c, B& b, Value dy) { return multiply(b, dy, add_scalar(b, c.result(0), 1)); });
const OpDef kLogPlusOne = unary<"log_plus_one", log_of_one_plus, kAnalytic, Range{-0.5, 2}>(
    [](C& c, B& b, Value dy) { return divide(b, dy, add_scalar(b, c.operand(0), 1)); });
const OpDef kTan =
    unary<"tan", [](auto x) { return std::tan(x); }, kAnalytic>([](C& c, B& b, Value dy) {
      return multiply(b, dy, add_scalar(b, multiply(b, c.result(0), c.result(0)), 1));
    });

const OpDef kAtan2 =
    binary<"atan2", [](auto y, auto x) { return std::atan2(y, x); }, kReals, Range{0.3, 2}>(
        [](C& c, B& b, Value dy) {
          return divide(b, multiply(b, dy, c.operand(1)),
                        square_sum(b, c.operand(0), c.operand(1)));
        },
        [](C& c, B& b, Value dy) {
          return negate(b, divide(b, multiply(b, dy, c.operand(0)),
                                  square_sum(b, c.operand(0), c.operand(1))));
        });
const OpDef kRemainder = binary<"remainder", remainder_of, kReals | kIntegers, Range{0.3, 2}>(
    [](C&, B&, Value dy) { return dy; },
    [](C& c, B& b, Value dy) {
      return negate(b, multiply(b, dy, truncated(b, divide(b, c.operand(0), c.operand(1)))));
    });

}  // namespace tessera::ops
