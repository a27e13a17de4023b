// Normalisation (core/ops/norm.h) together with the sums of a residual stream around it, for one pass over
// the activations. Made by the pass fuse_residual_norms, after localize; models and autodiff write
// add(x, r) and layer_norm, and the gradients of both.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// add_layer_norm{epsilon}(x, r, gamma, beta) -> (y, mean, rstd, sum): sum = x + r, rounded to their dtype, and
// (y, mean, rstd) = layer_norm(sum, gamma, beta). sum may lie over x or r.
extern const OpDef kAddLayerNorm;
// add_rms_norm{epsilon}(x, r, gamma) -> (y, rstd, sum)
extern const OpDef kAddRmsNorm;

// layer_norm_grad_add(x, gamma, mean, rstd, dy, residual) -> (dx, dgamma, dbeta): dx is layer_norm_grad's plus
// `residual`, like x, rounded once. dx may lie over dy or residual.
extern const OpDef kLayerNormGradAdd;
// rms_norm_grad_add(x, gamma, rstd, dy, residual) -> (dx, dgamma)
extern const OpDef kRmsNormGradAdd;

}  // namespace tessera::ops
