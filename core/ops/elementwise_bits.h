// Ops on the bits of elements: shifts, counts, reinterpretation, reduced precision.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// Integers. A shift by the width or more (or, as unsigned, a negative one) gives 0, the arithmetic
// one the sign.
extern const OpDef kShiftLeft;
Value shift_left(Builder& b, Value x, Value places);
extern const OpDef kShiftRightArithmetic;
Value shift_right_arithmetic(Builder& b, Value x, Value places);
extern const OpDef kShiftRightLogical;
Value shift_right_logical(Builder& b, Value x, Value places);
extern const OpDef kPopcnt;
Value popcnt(Builder& b, Value x);
extern const OpDef kCountLeadingZeros;
Value count_leading_zeros(Builder& b, Value x);
// Integers and pred; named "xor".
extern const OpDef kLogicalXor;
Value logical_xor(Builder& b, Value x, Value y);

// bitcast_convert{dtype}(x): the same bits. To a narrower dtype a last dim of the ratio is added,
// the low bits first; to a wider one the last dim must be the ratio and vanishes. Not for pred and
// c64.
extern const OpDef kBitcastConvert;
Value bitcast_convert(Builder& b, Value x, DType dtype);

// reduce_precision{exponent_bits, mantissa_bits}(x): rounded to nearest even in such a format;
// beyond its range infinity, below its normal numbers 0. The dtype stays.
extern const OpDef kReducePrecision;
Value reduce_precision(Builder& b, Value x, int64_t exponent_bits, int64_t mantissa_bits);

}  // namespace tessera::ops
