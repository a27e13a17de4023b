#include "kernels/cuda/fusion/op_function.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/base/strings.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"

namespace tessera::cuda {
namespace {

// Ops whose functions have the op's name, but for those that C++ takes for operators ("not").
std::span<const OpDef* const> plain_ops() {
  using namespace ops;
  static const std::array<const OpDef*, 38> kOps = {
      &kNegate, &kAbs, &kSign, &kExponential, &kLog, &kTanh, &kSqrt, &kRsqrt, &kLogistic, &kErf, &kSine, &kCosine,
      &kTan, &kCbrt, &kExponentialMinusOne, &kLogPlusOne, &kFloor, &kCeil, &kRoundNearestEven, &kRoundNearestAfz,
      &kIsFinite, &kPopcnt, &kCountLeadingZeros, &kAdd, &kSubtract, &kMultiply, &kDivide, &kMaximum, &kMinimum,
      &kPower, &kRemainder, &kAtan2, &kShiftLeft, &kShiftRightArithmetic, &kShiftRightLogical, &kSelect, &kClamp,
      &kReducePrecision};
  return kOps;
}
std::span<const OpDef* const> other_ops() {
  using namespace ops;
  static const std::array<const OpDef*, 8> kOps = {&kLogicalNot, &kLogicalAnd, &kLogicalOr, &kLogicalXor,
                                                   &kCompare,    &kConvert,    &kGelu,      &kGeluGrad};
  return kOps;
}

}  // namespace

std::optional<std::string> type_name(DType dtype) {
  if (dtype == DType::c64) return std::nullopt;
  return std::string(name_of(dtype));
}

std::optional<std::string> op_function(const OpDef& op, const Attributes& attributes) {
  if (&op == &ops::kReducePrecision)
    return cat("reduce_precision<", attributes.integer(Attr::exponent_bits), ", ",
               std::min<int64_t>(attributes.integer(Attr::mantissa_bits), 52), ">");
  const auto plain = plain_ops();
  if (std::find(plain.begin(), plain.end(), &op) != plain.end()) return std::string(op.name);
  if (&op == &ops::kLogicalNot || &op == &ops::kLogicalAnd || &op == &ops::kLogicalOr || &op == &ops::kLogicalXor)
    return cat("logical_", op.name);
  if (&op == &ops::kCompare)
    return cat(attributes.flag(Attr::total_order) ? "total_" : "compare_",
               name_of(attributes.get<CompareDirection>(Attr::direction)));
  if (&op == &ops::kConvert) {
    const auto type = type_name(attributes.get<DType>(Attr::dtype));
    if (!type) return std::nullopt;
    return cat("convert<", *type, ">");
  }
  const char* const form = attributes.flag(Attr::is_approximate) ? "_tanh" : "";
  if (&op == &ops::kGelu) return cat("gelu", form);
  if (&op == &ops::kGeluGrad) return cat("gelu", form, "_grad");
  return std::nullopt;
}

std::span<const OpDef* const> ops_with_functions() {
  static const std::vector<const OpDef*> kOps = [] {
    std::vector<const OpDef*> ops(plain_ops().begin(), plain_ops().end());
    ops.insert(ops.end(), other_ops().begin(), other_ops().end());
    return ops;
  }();
  return kOps;
}

}  // namespace tessera::cuda
