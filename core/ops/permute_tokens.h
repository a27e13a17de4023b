// Tokens in the order of their experts, and back: what stands around ragged_dot (core/ops/ragged.h).
//
//     experts [[2, 0], [0, 1], [2, 1]]        3 tokens with 2 experts each, 3 experts
//     places  [[4, 0], [1, 2], [5, 3]]        where each choice stands when sorted by expert, stably
//     group_sizes [2, 2, 2]                   rows 0 1 for expert 0, 2 3 for expert 1, 4 5 for expert 2
//
// `places` is a permutation of the choices (token, slot): the inverse of the order by expert, which neither
// direction needs, since moving there and coming back both start at a token. The first three ops are
// linear, and are each other's gradients:
//
//     permute_tokens    rows[places[t, j]] = weights[t, j] * x[t]
//     unpermute_tokens  y[t] = sum over j of weights[t, j] * rows[places[t, j]], j ascending
//     token_dots        dots[t, j] = sum over d of rows[places[t, j], d] * x[t, d]
//
// Megatron-Core's permute and unpermute (moe_utils.py) are these. Places are a permutation of the rows, and
// kernels on a GPU rely on it; elsewhere choices with one place add up, and rows without a choice are zeros.
// A place outside the rows is skipped.
// `weights` (f32, or f64 beside f64) may be left out: all 1.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// expert_order{group_count}(experts s32[t, k]) -> (places s32[t, k], group_sizes s32[group_count])
// Choices of an expert outside [0, group_count) stand behind all groups, in order, and are not counted.
extern const OpDef kExpertOrder;
struct ExpertOrder {
  Value places, group_sizes;
};
ExpertOrder expert_order(Builder& b, Value experts, int64_t group_count);

// permute_tokens(x [t, d], places s32[t, k], weights [t, k]?) -> rows [t k, d] like x. All of the tokens
// must be on one device, since their rows are everywhere; d is free.
extern const OpDef kPermuteTokens;
Value permute_tokens(Builder& b, Value x, Value places, Value weights = {});

// unpermute_tokens(rows [n, d], places s32[t, k], weights [t, k]?) -> y [t, d] like rows. Tokens and d are
// free, rows must be whole. Its gradient needs n = t k.
extern const OpDef kUnpermuteTokens;
Value unpermute_tokens(Builder& b, Value rows, Value places, Value weights = {});

// token_dots(rows [n, d], places s32[t, k], x [t, d]) -> [t, k], f32 or f64: the gradient of weights.
// Tokens are free, d is a sum.
extern const OpDef kTokenDots;
Value token_dots(Builder& b, Value rows, Value places, Value x);

}  // namespace tessera::ops
