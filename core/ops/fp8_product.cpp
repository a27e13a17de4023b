#include "core/ops/fp8_product.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/ops/product_gradient.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

template <DType kLeft, DType kRight>
constexpr std::string_view kName = kLeft == DType::f8e5m2    ? "dot_general_fp8_grad_left"
                                   : kRight == DType::f8e5m2 ? "dot_general_fp8_grad_right"
                                                             : "dot_general_fp8";

template <DType kLeft, DType kRight>
std::vector<TensorType> infer(const OpCall& call) {
  constexpr std::string_view kOp = kName<kLeft, kRight>;
  check_operand_count(kOp, call, 2);
  for (const TensorType& type : call.operands)
    require(is_float(type.dtype) && size_of(type.dtype) > 1, kOp, ": rounds floats of 16 bits or more, not ", type);
  try {
    return kDotGeneral.infer(call);
  } catch (const UserError& error) {
    throw_user_error(kOp, ": ", error.what());
  }
}

// ---- eval ---------------------------------------------------------------------------------------

// What `x` is multiplied as: rounded to `format` at its scale, in f64.
HostTensor rounded(const HostTensor& x, DType format) {
  std::vector<double> values = reals_of(x);
  double largest = kLeastMaxAbs;
  for (const double v : values)
    if (!std::isnan(largest) && !(std::abs(v) <= largest)) largest = std::abs(v);
  const double power = std::isfinite(largest) ? std::ldexp(std::nearbyint(std::ldexp(largest, -std::ilogb(largest))),
                                                           std::ilogb(largest))
                                              : largest;
  const double scale = power * fp8_scale_of_power(format);
  HostTensor scaled({DType::f64, x.shape()});
  for (double& v : values) v /= scale;
  set_reals(scaled, values);
  values = reals_of(scaled.cast(format));
  for (double& v : values) v *= scale;
  set_reals(scaled, values);
  return scaled;
}

template <DType kLeft, DType kRight>
void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const HostTensor left = rounded(*x[0], kLeft), right = rounded(*x[1], kRight);
  const std::vector<const HostTensor*> operands = {&left, &right};
  const TensorType types[] = {left.type(), right.type()};
  kDotGeneral.eval({types, call.attributes}, operands, y);
}

// ---- the rest -----------------------------------------------------------------------------------

Value emit(Builder& b, const OpDef& op, Value lhs, Value rhs, const DotDims& dims, DType dtype) {
  Attributes attributes{{Attr::lhs_contracting, dims.lhs_contracting},
                        {Attr::rhs_contracting, dims.rhs_contracting},
                        {Attr::lhs_batch, dims.lhs_batch},
                        {Attr::rhs_batch, dims.rhs_batch}};
  if (dtype != b.dtype(lhs)) attributes.set(Attr::dtype, dtype);
  return b.emit(op, {lhs, rhs}, std::move(attributes));
}

std::vector<Value> grad(GradContext& c) {
  std::vector<Value> gradients(2);
  for (int side : {0, 1}) {
    if (!c.needs_gradient(side)) continue;
    gradients[static_cast<size_t>(side)] =
        product_gradient(c, side == 0, [&](Value lhs, Value rhs, const DotDims& dims, bool dy_is_lhs) {
          return emit(c.builder(), dy_is_lhs ? kDotGeneralFp8GradLeft : kDotGeneralFp8GradRight, lhs, rhs, dims,
                      c.gradient_dtype(side));
        });
  }
  return gradients;
}

// Rounding is no step that finite differences see through.
std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (OpSample sample : kDotGeneral.samples()) {
    if (!is_float(sample.operands[0].dtype)) continue;
    sample.differentiable = false;
    samples.push_back(std::move(sample));
  }
  return samples;
}

template <DType kLeft, DType kRight>
OpDef product() {
  // No factors: the scales are of whole tensors.
  return {.name = kName<kLeft, kRight>,
          .attributes = {Attr::lhs_contracting, Attr::rhs_contracting, Attr::lhs_batch, Attr::rhs_batch},
          .optional_attributes = {Attr::dtype},
          .infer = infer<kLeft, kRight>,
          .eval = eval<kLeft, kRight>,
          .flops = [](const OpCall& call, std::span<const TensorType> results) {
            return kDotGeneral.flops(call, results);
          },
          .samples = samples,
          .multiplies_matrices = true};
}

OpDef differentiable(OpDef op) {
  op.grad = grad;
  return op;
}

}  // namespace

const OpDef kDotGeneralFp8 = differentiable(product<DType::f8e4m3fn, DType::f8e4m3fn>());
const OpDef kDotGeneralFp8GradLeft = product<DType::f8e5m2, DType::f8e4m3fn>();
const OpDef kDotGeneralFp8GradRight = product<DType::f8e4m3fn, DType::f8e5m2>();

Value dot_general_fp8(Builder& b, Value lhs, Value rhs, const DotDims& dims) {
  return emit(b, kDotGeneralFp8, lhs, rhs, dims, b.dtype(lhs));
}

std::optional<Fp8Formats> fp8_formats(const OpDef& op) {
  if (&op == &kDotGeneralFp8) return Fp8Formats{DType::f8e4m3fn, DType::f8e4m3fn};
  if (&op == &kDotGeneralFp8GradLeft) return Fp8Formats{DType::f8e5m2, DType::f8e4m3fn};
  if (&op == &kDotGeneralFp8GradRight) return Fp8Formats{DType::f8e4m3fn, DType::f8e5m2};
  return std::nullopt;
}

double fp8_scale_of_power(DType format) {
  TESSERA_CHECK(is_f8(format), "no fp8 format: ", format);
  return format == DType::f8e4m3fn ? 0x1p-8 : 0x1p-15;
}

}  // namespace tessera::ops
