// Ops whose result element i depends on the operand elements i alone. All operands have one shape;
// broadcasting is always the explicit op broadcast_in_dim.
//
// Real and integer arithmetic follow the StableHLO specification: integers wrap, integer division
// truncates (and gives -1 for a divisor of 0), comparisons with NaN are false except `ne`.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// One line declares an op and the function that appends it: `kTanh`, `tanh(b, x)`.
#define TESSERA_UNARY(Name, function) \
  extern const OpDef k##Name;         \
  inline Value function(Builder& b, Value x) { return b.emit(k##Name, {x}); }
#define TESSERA_BINARY(Name, function) \
  extern const OpDef k##Name;          \
  inline Value function(Builder& b, Value x, Value y) { return b.emit(k##Name, {x, y}); }

TESSERA_UNARY(Negate, negate)            // numbers
TESSERA_UNARY(Abs, abs)                  // floats, signed integers; c64 -> f32
TESSERA_UNARY(Sign, sign)                // floats, signed integers; sign(NaN) = NaN
TESSERA_UNARY(Exponential, exponential)  // floats and c64, as all down to cosine
TESSERA_UNARY(Log, log)
TESSERA_UNARY(Tanh, tanh)
TESSERA_UNARY(Sqrt, sqrt)
TESSERA_UNARY(Rsqrt, rsqrt)        // 1 / sqrt(x)
TESSERA_UNARY(Logistic, logistic)  // 1 / (1 + exp(-x))
TESSERA_UNARY(Erf, erf)            // floats
TESSERA_UNARY(Sine, sine)
TESSERA_UNARY(Cosine, cosine)
TESSERA_UNARY(Tan, tan)
TESSERA_UNARY(Cbrt, cbrt)
TESSERA_UNARY(ExponentialMinusOne, exponential_minus_one)  // exp(x) - 1
TESSERA_UNARY(LogPlusOne, log_plus_one)                    // log(1 + x)
TESSERA_UNARY(Floor, floor)                                // floats, as the next three
TESSERA_UNARY(Ceil, ceil)
TESSERA_UNARY(RoundNearestEven, round_nearest_even)  // halves to even
TESSERA_UNARY(RoundNearestAfz, round_nearest_afz)    // halves away from zero
TESSERA_UNARY(IsFinite, is_finite)      // floats -> pred
TESSERA_UNARY(LogicalNot, logical_not)  // pred, or the bits of integers; named "not"

TESSERA_BINARY(Add, add)
TESSERA_BINARY(Subtract, subtract)
TESSERA_BINARY(Multiply, multiply)
TESSERA_BINARY(Divide, divide)
TESSERA_BINARY(Maximum, maximum)  // NaN where either is
TESSERA_BINARY(Minimum, minimum)
TESSERA_BINARY(Power, power)
TESSERA_BINARY(Remainder, remainder)  // the sign of x; integers too: x where y is 0
TESSERA_BINARY(Atan2, atan2)          // the angle of (y, x), floats
TESSERA_BINARY(LogicalAnd, logical_and)  // pred, or the bits of integers; named "and"
TESSERA_BINARY(LogicalOr, logical_or)    // named "or"

#undef TESSERA_UNARY
#undef TESSERA_BINARY

// compare{direction, total_order}(x, y) -> pred. With total_order floats compare by their bits:
// -NaN < -inf < ... < -0 < +0 < ... < inf < NaN.
extern const OpDef kCompare;
Value compare(Builder& b, Value x, Value y, CompareDirection direction);

// convert{dtype}(x): rounds to nearest even between floats, truncates towards zero to integers,
// is x != 0 to pred. Returns x itself where the dtype is already right.
extern const OpDef kConvert;
Value convert(Builder& b, Value x, DType dtype);

// select(pred, on_true, on_false), clamp(low, x, high). The functions also take a scalar predicate
// and scalar bounds, which they broadcast.
extern const OpDef kSelect;
Value select(Builder& b, Value pred, Value on_true, Value on_false);
extern const OpDef kClamp;
Value clamp(Builder& b, Value low, Value x, Value high);

// gelu{is_approximate}: x * Phi(x), or its tanh form (GPT-2's).
extern const OpDef kGelu;
Value gelu(Builder& b, Value x, bool is_approximate);
// gelu_grad{is_approximate}(x, dy) -> dx
extern const OpDef kGeluGrad;
Value gelu_grad(Builder& b, Value x, Value dy, bool is_approximate);

// x * s and x + s with a number, rounded to x's dtype first.
Value scale(Builder& b, Value x, double factor);
Value add_scalar(Builder& b, Value x, double addend);
// x * logistic(x).
Value silu(Builder& b, Value x);

}  // namespace tessera::ops
