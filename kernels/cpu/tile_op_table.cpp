#include "kernels/cpu/tile_op_table.h"

#include <algorithm>
#include <array>

#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"

namespace tessera::cpu {
namespace {

struct Entry {
  const OpDef* op;
  TileOp tile;
};

// Ops whose attributes choose among tile operations stand in tile_op_of instead.
std::span<const Entry> plain_entries() {
  using namespace ops;
  static const std::array kEntries = {
      Entry{&kNegate, TileOp::negate},
      Entry{&kAbs, TileOp::abs},
      Entry{&kSign, TileOp::sign},
      Entry{&kExponential, TileOp::exponential},
      Entry{&kLog, TileOp::log},
      Entry{&kTanh, TileOp::tanh},
      Entry{&kSqrt, TileOp::sqrt},
      Entry{&kRsqrt, TileOp::rsqrt},
      Entry{&kLogistic, TileOp::logistic},
      Entry{&kErf, TileOp::erf},
      Entry{&kSine, TileOp::sine},
      Entry{&kCosine, TileOp::cosine},
      Entry{&kTan, TileOp::tan},
      Entry{&kCbrt, TileOp::cbrt},
      Entry{&kExponentialMinusOne, TileOp::exponential_minus_one},
      Entry{&kLogPlusOne, TileOp::log_plus_one},
      Entry{&kFloor, TileOp::floor},
      Entry{&kCeil, TileOp::ceil},
      Entry{&kRoundNearestEven, TileOp::round_nearest_even},
      Entry{&kRoundNearestAfz, TileOp::round_nearest_afz},
      Entry{&kIsFinite, TileOp::is_finite},
      Entry{&kPopcnt, TileOp::popcnt},
      Entry{&kCountLeadingZeros, TileOp::count_leading_zeros},
      Entry{&kLogicalNot, TileOp::logical_not},
      Entry{&kAdd, TileOp::add},
      Entry{&kSubtract, TileOp::subtract},
      Entry{&kMultiply, TileOp::multiply},
      Entry{&kDivide, TileOp::divide},
      Entry{&kMaximum, TileOp::maximum},
      Entry{&kMinimum, TileOp::minimum},
      Entry{&kPower, TileOp::power},
      Entry{&kRemainder, TileOp::remainder},
      Entry{&kAtan2, TileOp::atan2},
      Entry{&kLogicalAnd, TileOp::logical_and},
      Entry{&kLogicalOr, TileOp::logical_or},
      Entry{&kLogicalXor, TileOp::logical_xor},
      Entry{&kShiftLeft, TileOp::shift_left},
      Entry{&kShiftRightArithmetic, TileOp::shift_right_arithmetic},
      Entry{&kShiftRightLogical, TileOp::shift_right_logical},
      Entry{&kSelect, TileOp::select},
      Entry{&kClamp, TileOp::clamp},
      Entry{&kConvert, TileOp::convert},
  };
  return kEntries;
}

TileOp compare_op(CompareDirection direction, bool is_total) {
  switch (direction) {
    case CompareDirection::eq:
      return is_total ? TileOp::total_eq : TileOp::eq;
    case CompareDirection::ne:
      return is_total ? TileOp::total_ne : TileOp::ne;
    case CompareDirection::lt:
      return is_total ? TileOp::total_lt : TileOp::lt;
    case CompareDirection::le:
      return is_total ? TileOp::total_le : TileOp::le;
    case CompareDirection::gt:
      return is_total ? TileOp::total_gt : TileOp::gt;
    case CompareDirection::ge:
      return is_total ? TileOp::total_ge : TileOp::ge;
  }
  __builtin_unreachable();
}

}  // namespace

std::optional<TileOp> tile_op_of(const OpDef& op, const Attributes& attributes) {
  const bool approximate = attributes.flag(Attr::is_approximate);
  if (&op == &ops::kGelu) return approximate ? TileOp::gelu_tanh : TileOp::gelu;
  if (&op == &ops::kGeluGrad) return approximate ? TileOp::gelu_tanh_grad : TileOp::gelu_grad;
  if (&op == &ops::kCompare)
    return compare_op(attributes.get<CompareDirection>(Attr::direction),
                      attributes.flag(Attr::total_order));
  if (&op == &ops::kReducePrecision && attributes.integer(Attr::exponent_bits) >= 8 &&
      attributes.integer(Attr::mantissa_bits) == 0)
    return TileOp::power_of_two;
  const auto entries = plain_entries();
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.op == &op; });
  if (found == entries.end()) return std::nullopt;
  return found->tile;
}

std::span<const OpDef* const> tile_ops() {
  static const std::vector<const OpDef*> kOps = [] {
    std::vector<const OpDef*> ops = {&ops::kGelu, &ops::kGeluGrad, &ops::kCompare, &ops::kReducePrecision};
    for (const Entry& entry : plain_entries()) ops.push_back(entry.op);
    return ops;
  }();
  return kOps;
}

}  // namespace tessera::cpu
