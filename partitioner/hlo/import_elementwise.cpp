// Elementwise opcodes. Most are an op of ours with the same operands.
#include "core/ops/complex.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {
namespace {

// Same operands, same result.
template <const OpDef& kOp, int kArity>
void same(ImportContext& c) {
  expect_operands(c, kArity);
  std::vector<Value> operands;
  for (int i = 0; i < kArity; ++i) operands.push_back(c.operand(i));
  c.set({c.builder().emit(kOp, std::move(operands))});
}

// The same for floats only: of complex numbers Tessera has none.
template <const OpDef& kOp, int kArity>
void real_only(ImportContext& c) {
  expect_operands(c, kArity);
  if (c.builder().dtype(c.operand(0)) == DType::c64)
    return c.unsupported(cat("opcode ", c.instruction().opcode, " of c64"));
  same<kOp, kArity>(c);
}

void copy(ImportContext& c) {
  expect_operands(c, 1);
  c.set(c.all_operands());
}

void sign(ImportContext& c) {
  expect_operands(c, 1);
  Builder& b = c.builder();
  const Value x = c.operand(0);
  if (b.dtype(x) != DType::c64) return same<ops::kSign, 1>(c);
  // z / |z|, and 0 of 0.
  const Value size = ops::abs(b, x);
  const Value quotient = ops::divide(b, x, ops::complex(b, size, ops::zeros_like(b, size)));
  const Value is_zero = ops::compare(b, size, ops::zeros_like(b, size), CompareDirection::eq);
  c.set({ops::select(b, is_zero, ops::zeros_like(b, x), quotient)});
}

// Of floats too: a real number is its own real part.
void real(ImportContext& c) {
  expect_operands(c, 1);
  const Value x = c.operand(0);
  c.set({c.builder().dtype(x) == DType::c64 ? ops::real(c.builder(), x) : x});
}
void imag(ImportContext& c) {
  expect_operands(c, 1);
  const Value x = c.operand(0);
  c.set({c.builder().dtype(x) == DType::c64 ? ops::imag(c.builder(), x)
                                            : ops::zeros_like(c.builder(), x)});
}

CompareDirection direction_of(const ImportContext& c) {
  const std::string& name = c.name_of("direction");
  if (name == "EQ") return CompareDirection::eq;
  if (name == "NE") return CompareDirection::ne;
  if (name == "LT") return CompareDirection::lt;
  if (name == "LE") return CompareDirection::le;
  if (name == "GT") return CompareDirection::gt;
  if (name == "GE") return CompareDirection::ge;
  c.fail(cat("direction=", name, " is none of EQ, NE, LT, LE, GT, GE"));
}

// Whether floats compare by their bits. SIGNED and UNSIGNED must be what the operands are.
bool is_total_order(const ImportContext& c, DType dtype) {
  if (!c.instruction().find("type")) return false;
  const std::string& type = c.name_of("type");
  if (type == "TOTALORDER" && (is_float(dtype) || is_integer(dtype) || dtype == DType::pred))
    return is_float(dtype);
  const bool fits = (type == "FLOAT" && (is_float(dtype) || dtype == DType::c64)) ||
                    (type == "SIGNED" && is_signed_integer(dtype)) ||
                    (type == "UNSIGNED" &&
                     (dtype == DType::pred || (is_integer(dtype) && !is_signed_integer(dtype))));
  if (!fits) c.fail(cat("type=", type, " does not compare ", dtype));
  return false;
}

void compare(ImportContext& c) {
  expect_operands(c, 2);
  Attributes attributes{{Attr::direction, direction_of(c)}};
  if (is_total_order(c, c.builder().dtype(c.operand(0)))) attributes.set(Attr::total_order, true);
  c.set({c.builder().emit(ops::kCompare, {c.operand(0), c.operand(1)}, attributes)});
}

// A scalar goes with every element of `like`.
Value spread(Builder& b, Value x, Value like) {
  if (b.shape(x).rank() != 0 || b.shape(like).rank() == 0) return x;
  return ops::broadcast_scalar(b, x, b.shape(like));
}

void select(ImportContext& c) {
  expect_operands(c, 3);
  Builder& b = c.builder();
  const Value on_true = c.operand(1);
  c.set({b.emit(ops::kSelect, {spread(b, c.operand(0), on_true), on_true, c.operand(2)})});
}

void clamp(ImportContext& c) {
  expect_operands(c, 3);
  Builder& b = c.builder();
  const Value x = c.operand(1);
  c.set({b.emit(ops::kClamp, {spread(b, c.operand(0), x), x, spread(b, c.operand(2), x)})});
}

void convert(ImportContext& c) {
  expect_operands(c, 1);
  const Value x = c.operand(0);
  const DType from = c.builder().dtype(x), to = c.result_type().dtype;
  if (from == DType::c64 && to != DType::c64)
    c.fail(cat("convert from c64 to ", to, ": take real or imag"));
  c.set({ops::convert(c.builder(), x, to)});
}

void bitcast_convert(ImportContext& c) {
  expect_operands(c, 1);
  const Value x = c.operand(0);
  const DType from = c.builder().dtype(x), to = c.result_type().dtype;
  for (DType dtype : {from, to})
    if (from != to && (dtype == DType::pred || dtype == DType::c64))
      return c.unsupported(cat("opcode bitcast-convert of ", dtype));
  c.set({ops::bitcast_convert(c.builder(), x, to)});
}

void reduce_precision(ImportContext& c) {
  expect_operands(c, 1);
  c.set({ops::reduce_precision(c.builder(), c.operand(0), c.integer("exponent_bits"),
                               c.integer("mantissa_bits"))});
}

}  // namespace

std::span<const OpcodeEntry> elementwise_opcodes() {
  using namespace ops;
  static constexpr OpcodeEntry kEntries[] = {
      {"abs", same<kAbs, 1>},
      {"cbrt", same<kCbrt, 1>},
      {"ceil", same<kCeil, 1>},
      {"cosine", same<kCosine, 1>},
      {"count-leading-zeros", same<kCountLeadingZeros, 1>},
      {"erf", real_only<kErf, 1>},
      {"exponential", same<kExponential, 1>},
      {"exponential-minus-one", same<kExponentialMinusOne, 1>},
      {"floor", same<kFloor, 1>},
      {"is-finite", same<kIsFinite, 1>},
      {"log", same<kLog, 1>},
      {"log-plus-one", same<kLogPlusOne, 1>},
      {"logistic", same<kLogistic, 1>},
      {"negate", same<kNegate, 1>},
      {"not", same<kLogicalNot, 1>},
      {"popcnt", same<kPopcnt, 1>},
      {"round-nearest-afz", same<kRoundNearestAfz, 1>},
      {"round-nearest-even", same<kRoundNearestEven, 1>},
      {"rsqrt", same<kRsqrt, 1>},
      {"sine", same<kSine, 1>},
      {"sqrt", same<kSqrt, 1>},
      {"tan", same<kTan, 1>},
      {"tanh", same<kTanh, 1>},
      {"sign", sign},
      {"real", real},
      {"imag", imag},
      {"copy", copy},
      {"add", same<kAdd, 2>},
      {"and", same<kLogicalAnd, 2>},
      {"atan2", real_only<kAtan2, 2>},
      {"complex", same<kMakeComplex, 2>},
      {"divide", same<kDivide, 2>},
      {"maximum", same<kMaximum, 2>},
      {"minimum", same<kMinimum, 2>},
      {"multiply", same<kMultiply, 2>},
      {"or", same<kLogicalOr, 2>},
      {"power", same<kPower, 2>},
      {"remainder", same<kRemainder, 2>},
      {"shift-left", same<kShiftLeft, 2>},
      {"shift-right-arithmetic", same<kShiftRightArithmetic, 2>},
      {"shift-right-logical", same<kShiftRightLogical, 2>},
      {"subtract", same<kSubtract, 2>},
      {"xor", same<kLogicalXor, 2>},
      {"compare", compare},
      {"select", select},
      {"clamp", clamp},
      {"convert", convert},
      {"bitcast-convert", bitcast_convert},
      {"reduce-precision", reduce_precision},
  };
  return kEntries;
}

}  // namespace tessera::hlo
