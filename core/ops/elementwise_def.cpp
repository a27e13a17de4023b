#include "core/ops/elementwise_def.h"

namespace tessera::ops {

bool covers(unsigned domains, DType dtype) {
  if (is_float(dtype)) return domains & kReals;
  if (dtype == DType::c64) return domains & kComplex;
  if (dtype == DType::pred) return domains & kPred;
  if (domains & kWrapping) return true;
  return domains & (is_signed_integer(dtype) ? kSigned : kUnsigned);
}

std::vector<TensorType> infer_same_type(std::string_view op, unsigned domains, int arity,
                                        const OpCall& call) {
  check_operand_count(op, call, arity);
  for (int i = 1; i < arity; ++i)
    require(call.operands[i] == call.operands[0], op, ": operands must have one type, got ",
            call.operands[0], " and ", call.operands[i]);
  require(covers(domains, call.operands[0].dtype), op, ": not defined for ", call.operands[0]);
  return {call.operands[0]};
}

std::vector<OpSample> elementwise_samples(unsigned domains, int arity, double low, double high,
                                          bool differentiable) {
  std::vector<OpSample> samples;
  const std::vector<std::pair<double, double>> ranges(static_cast<size_t>(arity), {low, high});
  const std::vector<std::pair<double, double>> whole(static_cast<size_t>(arity), {0, 9});
  auto add_sample = [&](DType dtype, bool is_differentiable, const auto& range) {
    const std::vector<TensorType> operands(static_cast<size_t>(arity), TensorType{dtype, {4, 6}});
    samples.push_back({operands, {}, range, is_differentiable});
  };
  if (domains & kReals) add_sample(DType::f64, differentiable, ranges);
  if (domains & kReals) add_sample(DType::bf16, false, ranges);
  if (domains & kComplex) add_sample(DType::c64, false, ranges);
  if (domains & (kSigned | kWrapping)) add_sample(DType::s32, false, whole);
  if (domains & (kUnsigned | kWrapping)) add_sample(DType::u8, false, whole);
  if (domains & kPred) add_sample(DType::pred, false, whole);
  return samples;
}

std::vector<LinearSet> linear_first(const OpCall&) { return {{{0}, ReduceKind::sum}}; }
std::vector<LinearSet> linear_first_if_inexact(const OpCall& call) {
  if (is_integer(call.operands[0].dtype)) return {};
  return {{{0}, ReduceKind::sum}};
}
std::vector<LinearSet> linear_in_sum(const OpCall&) { return {{{0, 1}, ReduceKind::sum}}; }
std::vector<LinearSet> linear_in_each(const OpCall&) {
  return {{{0}, ReduceKind::sum}, {{1}, ReduceKind::sum}};
}
std::vector<LinearSet> linear_max(const OpCall&) { return {{{0, 1}, ReduceKind::max}}; }
std::vector<LinearSet> linear_min(const OpCall&) { return {{{0, 1}, ReduceKind::min}}; }

Value where(Builder& b, Value x, Value y, CompareDirection direction, Value dy) {
  return select(b, compare(b, x, y, direction), dy, zeros_like(b, dy));
}

}  // namespace tessera::ops
