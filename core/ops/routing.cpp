#include "core/ops/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/ops/elementwise.h"
#include "core/ops/float_order.h"
#include "core/ops/norm.h"
#include "core/ops/sort.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

void check_logits(std::string_view op, const OpCall& call) {
  check_float(op, call, 0);
  const TensorType& logits = call.operands[0];
  require(logits.rank() == 2, op, ": logits must be [tokens, experts], got ", logits);
  const std::string& function = call.attributes.get<std::string>(Attr::score_function);
  require(function == "softmax" || function == "sigmoid", op,
          ": score_function is softmax or sigmoid, not \"", function, "\"");
  const double scale = call.attributes.number(Attr::scale);
  require(std::isfinite(scale), op, ": scale ", scale, " is not a number");
}

std::vector<TensorType> infer(const OpCall& call) {
  if (call.operands.size() != 2) check_operand_count("top_k_routing", call, 1);
  check_logits("top_k_routing", call);
  const TensorType& logits = call.operands[0];
  const int64_t k = call.attributes.integer(Attr::k);
  require(k >= 1 && k <= logits.shape[1], "top_k_routing: ", k, " of the experts of ", logits);
  const DType dtype = statistics_dtype(logits.dtype);
  if (call.operands.size() == 2) {
    const TensorType of_experts{dtype, {logits.shape[1]}}, of_all{dtype, logits.shape};
    require(call.operands[1] == of_experts || call.operands[1] == of_all,
            "top_k_routing: the bias of ", logits, " must be ", of_experts, " or ", of_all,
            ", not ", call.operands[1]);
  }
  return {{dtype, {logits.shape[0], k}}, {DType::s32, {logits.shape[0], k}}};
}

std::vector<TensorType> infer_grad(const OpCall& call) {
  check_operand_count("top_k_routing_grad", call, 3);
  check_logits("top_k_routing_grad", call);
  const TensorType &logits = call.operands[0], &experts = call.operands[1];
  require(experts.dtype == DType::s32 && experts.rank() == 2 &&
              experts.shape[0] == logits.shape[0],
          "top_k_routing_grad: experts of ", logits, " must be s32[", logits.shape[0],
          ",k], not ", experts);
  const TensorType weights{statistics_dtype(logits.dtype), experts.shape};
  require(call.operands[2] == weights, "top_k_routing_grad: d_weights of ", logits, " and ",
          experts, " must be ", weights, ", not ", call.operands[2]);
  return {logits};
}

// ---- eval ---------------------------------------------------------------------------------------

// One token's scores of all experts.
std::vector<double> scores_of(const double* logits, int64_t experts, bool is_sigmoid) {
  std::vector<double> scores(logits, logits + experts);
  if (is_sigmoid) {
    for (double& score : scores) score = 1 / (1 + std::exp(-score));
    return scores;
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (double& score : scores) score /= sum;
  return scores;
}

// By what all scores of the chosen are multiplied: the softmax's denominator is taken out before, so that
// chosen experts far below the best one count as they should.
struct Chosen {
  std::vector<double> scores;
  double factor = 1;
};
Chosen chosen_of(const double* logits, int64_t experts, const std::vector<int64_t>& choice,
                 const RoutingKind& kind) {
  Chosen chosen;
  if (kind.is_sigmoid || !kind.normalize) {
    const std::vector<double> scores = scores_of(logits, experts, kind.is_sigmoid);
    for (int64_t e : choice) chosen.scores.push_back(scores[static_cast<size_t>(e)]);
  } else {
    std::vector<double> own;
    for (int64_t e : choice) own.push_back(logits[e]);
    if (!own.empty()) chosen.scores = scores_of(own.data(), static_cast<int64_t>(own.size()), false);
  }
  if (kind.is_sigmoid && kind.normalize)
    chosen.factor =
        1 / (std::accumulate(chosen.scores.begin(), chosen.scores.end(), 0.0) + kSigmoidSumFloor);
  chosen.factor *= kind.scale;
  return chosen;
}

// NaN of either sign above infinity, -0 below +0: the order of top_k.
int64_t choice_rank(double value) {
  return value != value ? std::numeric_limits<int64_t>::max() : total_rank(value);
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const RoutingKind kind = routing_kind(call.attributes);
  const int64_t tokens = x[0]->shape()[0], experts = x[0]->shape()[1],
                k = call.attributes.integer(Attr::k);
  const std::vector<double> logits = reals_of(*x[0]),
                            bias = x.size() > 1 ? reals_of(*x[1]) : std::vector<double>{};
  const int64_t bias_step = x.size() > 1 && x[1]->shape().rank() == 2 ? experts : 0;
  std::vector<int64_t> order(static_cast<size_t>(experts)), ranks(order.size());
  for (int64_t t = 0; t < tokens; ++t) {
    const double* row = logits.data() + t * experts;
    const std::vector<double> scores =
        bias.empty() ? std::vector<double>{} : scores_of(row, experts, kind.is_sigmoid);
    for (size_t e = 0; e < ranks.size(); ++e)
      ranks[e] = choice_rank(
          bias.empty() ? row[e] : scores[e] + bias[static_cast<size_t>(t * bias_step) + e]);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return ranks[static_cast<size_t>(a)] > ranks[static_cast<size_t>(b)];
    });
    const std::vector<int64_t> choice(order.begin(), order.begin() + k);
    const Chosen chosen = chosen_of(row, experts, choice, kind);
    for (int64_t j = 0; j < k; ++j) {
      y[0].set_real(t * k + j, chosen.scores[static_cast<size_t>(j)] * chosen.factor);
      y[1].set_int(t * k + j, choice[static_cast<size_t>(j)]);
    }
  }
}

// With s the chosen scores, w = s * factor and g the cotangents of w:
//   softmax over all:   dlogit = p * (scale * g (0 where not chosen) - sum of scale * g p)
//   over the chosen:    the same, with p of the chosen alone
//   sigmoid:            dlogit = s (1 - s) * factor * (g - (normalize: sum of g s / sum of s))
void eval_grad(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const RoutingKind kind = routing_kind(call.attributes);
  const int64_t tokens = x[0]->shape()[0], experts = x[0]->shape()[1], k = x[1]->shape()[1];
  const std::vector<double> logits = reals_of(*x[0]), d_weights = reals_of(*x[2]);
  std::vector<double> d_logits(logits.size(), 0);
  for (int64_t t = 0; t < tokens; ++t) {
    const double* row = logits.data() + t * experts;
    double* d_row = d_logits.data() + t * experts;
    std::vector<int64_t> choice;
    std::vector<double> g;
    for (int64_t j = 0; j < k; ++j) {
      const int64_t e = x[1]->get_int(t * k + j);
      if (e < 0 || e >= experts) continue;
      choice.push_back(e);
      g.push_back(d_weights[static_cast<size_t>(t * k + j)]);
    }
    const Chosen chosen = chosen_of(row, experts, choice, kind);
    double dot = 0;
    for (size_t j = 0; j < g.size(); ++j) dot += g[j] * chosen.scores[j];
    if (kind.is_sigmoid) {
      const double mean = kind.normalize ? dot * chosen.factor / kind.scale : 0;
      for (size_t j = 0; j < g.size(); ++j)
        d_row[choice[j]] +=
            chosen.scores[j] * (1 - chosen.scores[j]) * chosen.factor * (g[j] - mean);
      continue;
    }
    for (size_t j = 0; j < g.size(); ++j)
      d_row[choice[j]] += kind.scale * chosen.scores[j] * (g[j] - (kind.normalize ? dot : 0));
    if (kind.normalize) continue;
    const std::vector<double> scores = scores_of(row, experts, false);
    for (int64_t e = 0; e < experts; ++e)
      d_row[e] -= kind.scale * scores[static_cast<size_t>(e)] * dot;
  }
  set_reals(y[0], d_logits);
}

// ---- the rest -----------------------------------------------------------------------------------

std::vector<Value> grad(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  if (!c.needs_gradient(0) || !c.has_cotangent(0)) return cotangents;
  const Attributes& own = c.attributes();
  Attributes attributes;
  for (Attr key : {Attr::score_function, Attr::normalize, Attr::scale})
    attributes.set(key, *own.find(key));
  cotangents[0] = c.builder().emit(kTopKRoutingGrad,
                                   {c.operand(0), c.result(1), c.cotangent(0)}, attributes);
  return cotangents;
}

// Tokens are on their own; a shard of the experts would lack the others' logits.
FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  const bool is_grad = call.operands.size() == 3;
  const TensorType& chosen = is_grad ? call.operands[1] : results[0];
  const int t = add_factor(rule, call.operands[0].shape[0]),
            e = add_factor(rule, call.operands[0].shape[1], FactorKind::need_replication),
            k = add_factor(rule, chosen.shape[1], FactorKind::need_replication);
  rule.operands = {dims_of({t, e})};
  if (is_grad) {
    rule.operands.insert(rule.operands.end(), 2, dims_of({t, k}));
    rule.results = {dims_of({t, e})};
  } else {
    if (call.operands.size() == 2)
      rule.operands.push_back(call.operands[1].rank() == 2 ? dims_of({t, e})
                                                           : dims_of(std::vector<int>{e}));
    rule.results.assign(2, dims_of({t, k}));
  }
  return rule;
}

std::vector<LinearSet> linear_grad(const OpCall&) { return {{{2}, ReduceKind::sum}}; }

double flops(const OpCall& call, std::span<const TensorType>) {
  return 4 * static_cast<double>(call.operands[0].elements());
}

constexpr std::pair<const char*, bool> kKinds[] = {
    {"softmax", true}, {"softmax", false}, {"sigmoid", true}, {"sigmoid", false}};

std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (const auto& [function, normalize] : kKinds)
    for (int bias_rank : {0, 1, 2}) {
      OpSample sample{{{DType::f64, {4, 6}}},
                      {{Attr::k, int64_t{2}},
                       {Attr::score_function, std::string(function)},
                       {Attr::normalize, normalize},
                       {Attr::scale, 2.5}},
                      {{-3, 3}}};
      if (bias_rank == 1) sample.operands.push_back({DType::f64, {6}});
      if (bias_rank == 2) sample.operands.push_back({DType::f64, {4, 6}});
      samples.push_back(sample);
    }
  return samples;
}

std::vector<OpSample> samples_grad() {
  std::vector<OpSample> samples;
  for (const auto& [function, normalize] : kKinds)
    samples.push_back({{{DType::f64, {4, 6}}, {DType::s32, {4, 2}}, {DType::f64, {4, 2}}},
                       {{Attr::score_function, std::string(function)},
                        {Attr::normalize, normalize},
                        {Attr::scale, 2.5}},
                       {{-3, 3}, {0, 5}},
                       false});
  return samples;
}

}  // namespace

RoutingKind routing_kind(const Attributes& attributes) {
  return {attributes.get<std::string>(Attr::score_function) == "sigmoid",
          attributes.flag(Attr::normalize), attributes.number(Attr::scale)};
}

const OpDef kTopKRouting{
    .name = "top_k_routing",
    .attributes = {Attr::k, Attr::score_function, Attr::normalize, Attr::scale},
    .infer = infer,
    .eval = eval,
    .grad = grad,
    .factors = factors,
    .flops = flops,
    .samples = samples};
const OpDef kTopKRoutingGrad{.name = "top_k_routing_grad",
                             .attributes = {Attr::score_function, Attr::normalize, Attr::scale},
                             .infer = infer_grad,
                             .eval = eval_grad,
                             .factors = factors,
                             .linear = linear_grad,
                             .flops = flops,
                             .samples = samples_grad};

Routing top_k_routing(Builder& b, Value logits, const RoutingOptions& options, Value bias) {
  std::vector<Value> operands = {logits};
  if (bias.valid()) operands.push_back(bias);
  const Value weights = b.emit(kTopKRouting, operands,
                               {{Attr::k, options.k},
                                {Attr::score_function, options.score_function},
                                {Attr::normalize, options.normalize},
                                {Attr::scale, options.scale}});
  return {weights, {weights.instruction, 1}};
}

Value limit_to_groups(Builder& b, Value scores, const GroupLimit& limit) {
  const int64_t tokens = b.shape(scores)[0], experts = b.shape(scores)[1], groups = limit.groups;
  require(groups >= 1 && experts % groups == 0 && limit.chosen >= 1 && limit.chosen <= groups &&
              limit.best >= 1 && limit.best <= experts / groups,
          "limit_to_groups: the best ", limit.best, " of the experts of ", limit.chosen, " of ",
          groups, " groups of ", b.type(scores));
  const Shape by_group{tokens, groups, experts / groups};
  const TopK best = top_k(b, reshape(b, scores, by_group), limit.best);
  const Value chosen = top_k(b, reduce(b, best.values, {2}), limit.chosen).indices;
  const Shape hits{tokens, limit.chosen, groups};
  const Value is_hit = compare(b, broadcast_in_dim(b, chosen, hits, {0, 1}),
                               iota(b, {DType::s32, hits}, 2), CompareDirection::eq);
  const Value is_open = reshape(
      b, broadcast_in_dim(b, reduce(b, is_hit, {1}, ReduceKind::logical_or), by_group, {0, 1}),
      b.shape(scores));
  return select(b, is_open, zeros_like(b, scores),
                constant_like(b, scores, -std::numeric_limits<double>::infinity()));
}

// The largest logit of a token cancels in the softmax, but is left in the gradient, where it cancels too.
Value expert_probabilities(Builder& b, Value logits) {
  const Value wide = convert(b, logits, statistics_dtype(b.dtype(logits)));
  const Shape& shape = b.shape(wide);
  const auto to_rows = [&](Value row) { return broadcast_in_dim(b, row, shape, {0}); };
  const Value exponent =
      exponential(b, subtract(b, wide, to_rows(reduce(b, wide, {1}, ReduceKind::max))));
  return divide(b, exponent, to_rows(reduce(b, exponent, {1})));
}

}  // namespace tessera::ops
