// The router of a mixture of experts: which experts a token goes to, and what each counts.
//
//     score_function, normalize        what it is                                       who has it
//     softmax,  true                   softmax over the chosen logits                   Mixtral, Qwen3-MoE, MaxText
//     softmax,  false                  softmax over all, the chosen kept as they are    Switch, DeepSeek-V2, Megatron's pre-softmax
//     sigmoid,  true, with a bias      sigmoid, chosen by score + bias, divided by      DeepSeek-V3
//                                      the sum of the chosen
//     sigmoid,  false                  sigmoid of the chosen                            Llama 4
//
// "Softmax, then the best k, then normalised" and "the best k, then softmax over them" are one thing: the
// softmax keeps the order and its denominator cancels. The names are those of Megatron-Core's
// topk_routing_with_score_function (moe_utils.py) and DeepSeek-V3's Gate (inference/model.py).
//
// What a loss of load balance needs is at hand: how many tokens an expert has are the group sizes of
// expert_order (core/ops/permute_tokens.h), and mean probabilities are a softmax of the same logits
// (`expert_probabilities`) and a mean.
#pragma once

#include <string>

#include "core/ir/builder.h"

namespace tessera::ops {

struct RoutingOptions {
  int64_t k = 1;  // experts per token
  std::string score_function = "softmax";  // or "sigmoid"
  bool normalize = true;   // a token's weights sum to `scale`
  double scale = 1;        // of all weights
};

// top_k_routing{k, score_function, normalize, scale}(logits [t, e], bias [e] or [t, e]?)
//   -> (weights [t, k], experts s32[t, k])
// The k best experts of each token, best first, of equals the one with the lower index; NaN is best of all,
// as in top_k. They are chosen by logit, or with a bias by score + bias; the bias takes no part in the
// weights and gets no gradient, and the choice is a constant of the gradient. Weights and bias are f32, or
// f64 where the logits are. A sum of sigmoids is increased by 1e-20, which keeps 0 / 0 out.
extern const OpDef kTopKRouting;
struct Routing {
  Value weights, experts;
};
Routing top_k_routing(Builder& b, Value logits, const RoutingOptions& options, Value bias = {});

// top_k_routing_grad{score_function, normalize, scale}(logits [t, e], experts [t, k], d_weights [t, k])
//   -> dlogits like logits. Experts outside [0, e) are skipped.
extern const OpDef kTopKRoutingGrad;

// A bias [t, e] that limits each token to the experts of few groups (DeepSeek-V2 and V3, "node-limited routing"):
// 0 for experts of the `chosen` groups whose `best` best scores sum to most, else -infinity. `scores` [t, e] are
// those that experts are chosen by (with V3's bias, best = 2; V2 has best = 1); experts of a group are neighbours.
// For a bias of both kinds, add them.
struct GroupLimit {
  int64_t groups = 1, chosen = 1, best = 1;
};
Value limit_to_groups(Builder& b, Value scores, const GroupLimit& limit);

// softmax(logits [t, e]) over all experts, f32 or f64, by ops that have gradients.
Value expert_probabilities(Builder& b, Value logits);

// What the attributes mean, for kernels.
struct RoutingKind {
  bool is_sigmoid = false, normalize = true;
  double scale = 1;
};
RoutingKind routing_kind(const Attributes& attributes);
inline constexpr double kSigmoidSumFloor = 1e-20;

}  // namespace tessera::ops
