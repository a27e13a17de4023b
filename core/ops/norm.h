// Normalisation over the last dim. Statistics are f32, or f64 where x is f64, whatever x's dtype.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// layer_norm{epsilon}(x [..., d], gamma [d], beta [d]) -> (y like x, mean [...], rstd [...])
//   y = (x - mean) * rstd * gamma + beta, rstd = 1 / sqrt(variance + epsilon)
extern const OpDef kLayerNorm;
struct LayerNormResult {
  Value y, mean, rstd;
};
LayerNormResult layer_norm(Builder& b, Value x, Value gamma, Value beta, double epsilon);

// layer_norm_grad(x, gamma, mean, rstd, dy) -> (dx like x, dgamma [d], dbeta [d]); the latter two
// in the statistics' dtype.
extern const OpDef kLayerNormGrad;
struct LayerNormGradResult {
  Value dx, dgamma, dbeta;
};
LayerNormGradResult layer_norm_grad(Builder& b, Value x, Value gamma, Value mean, Value rstd,
                                    Value dy);

// rms_norm{epsilon}(x, gamma) -> (y, rstd): y = x * rstd * gamma, rstd = 1/sqrt(mean(x^2) +
// epsilon)
extern const OpDef kRmsNorm;
struct RmsNormResult {
  Value y, rstd;
};
RmsNormResult rms_norm(Builder& b, Value x, Value gamma, double epsilon);

// rms_norm_grad(x, gamma, rstd, dy) -> (dx, dgamma)
extern const OpDef kRmsNormGrad;
struct RmsNormGradResult {
  Value dx, dgamma;
};
RmsNormGradResult rms_norm_grad(Builder& b, Value x, Value gamma, Value rstd, Value dy);

// sum_of_squares(x) -> scalar, f32 or f64. For global gradient norms.
extern const OpDef kSumOfSquares;
Value sum_of_squares(Builder& b, Value x);

// The dtype of statistics, losses and accumulators beside values of `dtype`.
DType statistics_dtype(DType dtype);

}  // namespace tessera::ops
