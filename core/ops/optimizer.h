// Optimizer updates, fused because they are bound by memory.
#pragma once

#include <bit>
#include <optional>

#include "core/ir/builder.h"

namespace tessera::ops {

// The random draw of stochastic rounding: see step_bits in core/ops/philox.h. Three sites from `site`
// on belong to one parameter: its own, and those of its first and second moment.
struct StochasticRounding {
  int64_t seed = 0, site = 0;
};

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  // of this tensor: 0 where the mask says so
  std::optional<StochasticRounding> rounding = std::nullopt;  // unset: to nearest
};

// Decoupled weight decay (Loshchilov & Hutter 2019). All tensors have one shape; grad is f32 or f64,
// and so are the four scalars behind it; param, and m with v, are of that dtype or bf16.
//   g = grad * grad_scale;  m' = beta1 m + (1-beta1) g;  v' = beta2 v + (1-beta2) g^2
//   p' = p - learning_rate * ((m' / bias_correction1) / (sqrt(v' / bias_correction2) + epsilon)
//                             + weight_decay * p)
// with bias_correction = 1 - beta^step. Where grad_scale is not finite (a loss or norm went bad) the
// results are the operands: the step is skipped. Result i overwrites operand i.
//
// p', m' and v' are rounded once, as they are stored. With attributes seed and seed_site what is
// stored in bf16 is rounded to one of its two neighbours, with probabilities that make the mean
// exact (from the value rounded to f32); a scalar operand `step` (s64) follows the others then, and
// behind it the starts of a shard, one per dim of size above 1, all or none.
extern const OpDef kAdamW;
struct AdamWOperands {
  Value param, m, v, grad, learning_rate, grad_scale, bias_correction1, bias_correction2;
  Value step = {};  // with options.rounding
};
struct AdamWResult {
  Value param, m, v;
};
AdamWResult adamw(Builder& b, const AdamWOperands& operands, const AdamWOptions& options);

// Several tensors' updates with the same scalars: (param, m, v, grad) of each, the scalars, [step],
// then the starts of each tensor, start_counts of them; results (param', m', v') of each, over their
// operands. Bitwise what adamw gives each. Made by the pass join_updates, after localize.
extern const OpDef kMultiAdamW;

// sum_of_squares of each operand, all of one dtype. Made by the pass join_updates, after localize.
extern const OpDef kMultiSumOfSquares;

// How a call of adamw or multi_adamw is laid out, for kernels.
struct AdamWLayout {
  struct Tensor {
    double weight_decay;
    // With stochastic rounding: its sites, the strides of the whole tensor, and its start operands
    // with what one of each adds to the index.
    int64_t site = 0;
    Ints strides;
    size_t first_start = 0;
    Ints start_strides;
  };
  std::vector<Tensor> tensors;
  size_t scalars;                // operand number of learning_rate
  std::optional<int64_t> seed;   // of stochastic rounding
};
AdamWLayout adamw_layout(const OpCall& call);
inline size_t operand_of(size_t tensor, size_t part) { return 4 * tensor + part; }
inline size_t result_of(size_t tensor, size_t part) { return 3 * tensor + part; }

// The bits of bf16 that 16 random bits choose for `value`; NaN and infinities stay what they are.
inline uint16_t round_stochastically(float value, uint32_t random) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  if ((word & 0x7f800000u) == 0x7f800000u) return bfloat16(value).bits;
  return static_cast<uint16_t>((word + random) >> 16);
}

}  // namespace tessera::ops
