#include "core/ops/permute_tokens.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/ops/norm.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// ---- expert_order -------------------------------------------------------------------------------

std::vector<TensorType> infer_order(const OpCall& call) {
  check_operand_count("expert_order", call, 1);
  const TensorType& experts = call.operands[0];
  require(experts.dtype == DType::s32 && experts.rank() == 2,
          "expert_order: experts must be s32[tokens, k], got ", experts);
  const int64_t groups = call.attributes.integer(Attr::group_count),
                most = std::numeric_limits<int32_t>::max();
  require(groups >= 0 && groups < most && experts.elements() < most, "expert_order: ", groups,
          " experts for ", experts, " do not fit s32");
  return {experts, {DType::s32, {groups}}};
}

void eval_order(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const int64_t groups = call.attributes.integer(Attr::group_count);
  std::vector<int64_t> experts;
  for (int64_t i = 0; i < x[0]->elements(); ++i) {
    const int64_t expert = x[0]->get_int(i);
    experts.push_back(expert >= 0 && expert < groups ? expert : groups);
  }
  std::vector<int64_t> order(experts.size()), sizes(static_cast<size_t>(groups + 1), 0);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return experts[static_cast<size_t>(a)] < experts[static_cast<size_t>(b)];
  });
  for (size_t i = 0; i < order.size(); ++i) {
    y[0].set_int(order[i], static_cast<int64_t>(i));
    ++sizes[static_cast<size_t>(experts[i])];
  }
  for (int64_t g = 0; g < groups; ++g) y[1].set_int(g, sizes[static_cast<size_t>(g)]);
}

std::vector<OpSample> samples_order() {
  return {{{{DType::s32, {4, 2}}}, {{Attr::group_count, int64_t{4}}}, {{0, 3}}, false},
          {{{DType::s32, {6, 2}}}, {{Attr::group_count, int64_t{3}}}, {{-1, 4}}, false}};
}

// ---- what the three moves share -----------------------------------------------------------------

// [t, k] of places, and d; which operand has rows of its own, and whether there are weights.
struct Moves {
  int64_t tokens, k, rows, width;
  int64_t choices() const { return tokens * k; }
};
Moves moves_of(const OpCall& call, bool from_rows) {
  const Shape &first = call.operands[0].shape, &places = call.operands[1].shape;
  return {places[0], places[1], from_rows ? first[0] : places.elements(), first[1]};
}

void check_moves(std::string_view op, const OpCall& call) {
  if (call.operands.size() != 3) check_operand_count(op, call, 2);
  check_float(op, call, 0);
  const TensorType &first = call.operands[0], &places = call.operands[1];
  require(first.rank() == 2 && places.rank() == 2 && places.dtype == DType::s32, op,
          ": needs [rows, d] and places s32[tokens, k], got ", first, " and ", places);
}

void check_weights(std::string_view op, const OpCall& call) {
  if (call.operands.size() < 3) return;
  const TensorType wanted{statistics_dtype(call.operands[0].dtype), call.operands[1].shape};
  require(call.operands[2] == wanted, op, ": weights of ", call.operands[0], " and ",
          call.operands[1], " must be ", wanted, ", not ", call.operands[2]);
}

std::vector<TensorType> infer_permute(const OpCall& call) {
  check_moves("permute_tokens", call);
  check_weights("permute_tokens", call);
  const TensorType &x = call.operands[0], &places = call.operands[1];
  require(x.shape[0] == places.shape[0], "permute_tokens: ", x, " and places ", places,
          " differ in their number of tokens");
  return {{x.dtype, {places.elements(), x.shape[1]}}};
}

std::vector<TensorType> infer_unpermute(const OpCall& call) {
  check_moves("unpermute_tokens", call);
  check_weights("unpermute_tokens", call);
  return {{call.operands[0].dtype, {call.operands[1].shape[0], call.operands[0].shape[1]}}};
}

std::vector<TensorType> infer_dots(const OpCall& call) {
  check_operand_count("token_dots", call, 3);
  check_moves("token_dots", call);
  const TensorType &rows = call.operands[0], &places = call.operands[1];
  const TensorType wanted{rows.dtype, {places.shape[0], rows.shape[1]}};
  require(call.operands[2] == wanted, "token_dots: x of rows ", rows, " and places ", places,
          " must be ", wanted, ", not ", call.operands[2]);
  return {{statistics_dtype(rows.dtype), places.shape}};
}

// Calls body(token, choice, row) for each choice that has a row.
template <typename Body>
void for_each_choice(const Moves& m, const HostTensor& places, Body body) {
  for (int64_t i = 0; i < m.choices(); ++i)
    if (const int64_t row = places.get_int(i); row >= 0 && row < m.rows) body(i / m.k, i, row);
}

std::vector<double> weights_of(std::span<const HostTensor* const> x, const Moves& m) {
  return x.size() > 2 ? reals_of(*x[2])
                      : std::vector<double>(static_cast<size_t>(m.choices()), 1.0);
}

void eval_permute(const OpCall& call, std::span<const HostTensor* const> x,
                  std::span<HostTensor> y) {
  const Moves m = moves_of(call, false);
  const std::vector<double> from = reals_of(*x[0]), weights = weights_of(x, m);
  std::vector<double> rows(static_cast<size_t>(m.rows * m.width), 0);
  for_each_choice(m, *x[1], [&](int64_t token, int64_t choice, int64_t row) {
    for (int64_t d = 0; d < m.width; ++d)
      rows[row * m.width + d] += weights[choice] * from[token * m.width + d];
  });
  set_reals(y[0], rows);
}

void eval_unpermute(const OpCall& call, std::span<const HostTensor* const> x,
                    std::span<HostTensor> y) {
  const Moves m = moves_of(call, true);
  const std::vector<double> rows = reals_of(*x[0]), weights = weights_of(x, m);
  std::vector<double> to(static_cast<size_t>(m.tokens * m.width), 0);
  for_each_choice(m, *x[1], [&](int64_t token, int64_t choice, int64_t row) {
    for (int64_t d = 0; d < m.width; ++d)
      to[token * m.width + d] += weights[choice] * rows[row * m.width + d];
  });
  set_reals(y[0], to);
}

void eval_dots(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const Moves m = moves_of(call, true);
  const std::vector<double> rows = reals_of(*x[0]), with = reals_of(*x[2]);
  std::vector<double> dots(static_cast<size_t>(m.choices()), 0);
  for_each_choice(m, *x[1], [&](int64_t token, int64_t choice, int64_t row) {
    for (int64_t d = 0; d < m.width; ++d)
      dots[choice] += rows[row * m.width + d] * with[token * m.width + d];
  });
  set_reals(y[0], dots);
}

// ---- gradients ----------------------------------------------------------------------------------

std::vector<Value> grad_permute(GradContext& c) {
  Builder& b = c.builder();
  const Value places = c.operand(1), d_rows = c.cotangent(0);
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  const bool has_weights = c.operand_count() > 2;
  if (c.needs_gradient(0))
    cotangents[0] = unpermute_tokens(b, d_rows, places, has_weights ? c.operand(2) : Value{});
  if (has_weights && c.needs_gradient(2))
    cotangents[2] = token_dots(b, d_rows, places, c.operand(0));
  return cotangents;
}

// d_rows as permute_tokens makes them: one row for each choice.
Value rows_from(GradContext& c, Value x, Value weights) {
  const TensorType &rows = c.operand_type(0), &places = c.operand_type(1);
  require(rows.shape[0] == places.elements(), "rows ", rows, " beyond the ", places.elements(),
          " choices of ", places, " have no gradient");
  return permute_tokens(c.builder(), x, c.operand(1), weights);
}

std::vector<Value> grad_unpermute(GradContext& c) {
  const Value dy = c.cotangent(0);
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  const bool has_weights = c.operand_count() > 2;
  if (c.needs_gradient(0)) cotangents[0] = rows_from(c, dy, has_weights ? c.operand(2) : Value{});
  if (has_weights && c.needs_gradient(2))
    cotangents[2] = token_dots(c.builder(), c.operand(0), c.operand(1), dy);
  return cotangents;
}

std::vector<Value> grad_dots(GradContext& c) {
  const Value d_dots = c.cotangent(0);
  std::vector<Value> cotangents(3);
  if (c.needs_gradient(0)) cotangents[0] = rows_from(c, c.operand(2), d_dots);
  if (c.needs_gradient(2))
    cotangents[2] = unpermute_tokens(c.builder(), c.operand(0), c.operand(1), d_dots);
  return cotangents;
}

// ---- the rest -----------------------------------------------------------------------------------

enum class Move { permute, unpermute, dots };

// Rows are named by position, so they are whole; who only reads them may have some tokens alone.
template <Move kMove>
FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const Moves m = moves_of(call, kMove != Move::permute);
  const FactorKind whole = FactorKind::need_replication;
  const int t = add_factor(rule, m.tokens,
                           kMove == Move::permute ? whole : FactorKind::pass_through),
            k = add_factor(rule, m.k, whole), n = add_factor(rule, m.rows, whole),
            d = add_factor(rule, m.width,
                           kMove == Move::dots ? FactorKind::reduction : FactorKind::pass_through);
  const TensorFactors rows = dims_of({n, d}), tokens = dims_of({t, d}), choices = dims_of({t, k});
  rule.operands = {kMove == Move::permute ? tokens : rows, choices};
  if (call.operands.size() > 2)
    rule.operands.push_back(kMove == Move::dots ? tokens : choices);
  rule.results = {kMove == Move::permute ? rows : kMove == Move::dots ? choices : tokens};
  return rule;
}

std::vector<LinearSet> linear(const OpCall& call) {
  std::vector<LinearSet> sets = {{{0}, ReduceKind::sum}};
  if (call.operands.size() > 2) sets.push_back({{2}, ReduceKind::sum});
  return sets;
}

// Zero along d where the rows are, unless a weight is no number.
std::vector<PadContents> transfer(const PadFacts& facts) {
  std::vector<PadContents> contents = transfer_constant(facts, PadContent::unknown);
  const bool has_numbers = facts.operands.size() < 3 || facts.is_number(2);
  if (facts.operands[0][1] == PadContent::zero && has_numbers) contents[0][1] = PadContent::zero;
  return contents;
}

double flops(const OpCall& call, std::span<const TensorType>) {
  return call.operands.size() > 2 ? 2.0 * static_cast<double>(call.operands[1].elements()) *
                                        static_cast<double>(call.operands[0].shape[1])
                                  : 0;
}

// 4 tokens with 2 experts each.
template <Move kMove>
std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (DType dtype : {DType::f64, DType::bf16})
    for (bool has_weights : {false, true}) {
      if (kMove == Move::dots && !has_weights) continue;
      const TensorType rows{dtype, {8, 6}}, tokens{dtype, {4, 6}}, places{DType::s32, {4, 2}},
          weights{dtype == DType::f64 ? DType::f64 : DType::f32, {4, 2}};
      OpSample sample{{kMove == Move::permute ? tokens : rows, places},
                      {},
                      {{-1, 1}, {0, 7}},
                      dtype == DType::f64};
      if (has_weights) sample.operands.push_back(kMove == Move::dots ? tokens : weights);
      samples.push_back(sample);
    }
  return samples;
}

}  // namespace

const OpDef kExpertOrder{.name = "expert_order",
                         .attributes = {Attr::group_count},
                         .infer = infer_order,
                         .eval = eval_order,
                         .flops = no_flops,
                         .samples = samples_order};
const OpDef kPermuteTokens{.name = "permute_tokens",
                           .infer = infer_permute,
                           .eval = eval_permute,
                           .grad = grad_permute,
                           .factors = factors<Move::permute>,
                           .linear = linear,
                           .pad_transfer = transfer,
                           .flops = flops,
                           .samples = samples<Move::permute>};
const OpDef kUnpermuteTokens{.name = "unpermute_tokens",
                             .infer = infer_unpermute,
                             .eval = eval_unpermute,
                             .grad = grad_unpermute,
                             .factors = factors<Move::unpermute>,
                             .linear = linear,
                             .pad_transfer = transfer,
                             .flops = flops,
                             .samples = samples<Move::unpermute>};
const OpDef kTokenDots{.name = "token_dots",
                       .infer = infer_dots,
                       .eval = eval_dots,
                       .grad = grad_dots,
                       .factors = factors<Move::dots>,
                       .linear = linear,
                       .flops = flops,
                       .samples = samples<Move::dots>};

ExpertOrder expert_order(Builder& b, Value experts, int64_t group_count) {
  const Value places = b.emit(kExpertOrder, {experts}, {{Attr::group_count, group_count}});
  return {places, {places.instruction, 1}};
}

namespace {

std::vector<Value> move_operands(Value first, Value places, Value third) {
  std::vector<Value> operands = {first, places};
  if (third.valid()) operands.push_back(third);
  return operands;
}

}  // namespace

Value permute_tokens(Builder& b, Value x, Value places, Value weights) {
  return b.emit(kPermuteTokens, move_operands(x, places, weights));
}
Value unpermute_tokens(Builder& b, Value rows, Value places, Value weights) {
  return b.emit(kUnpermuteTokens, move_operands(rows, places, weights));
}
Value token_dots(Builder& b, Value rows, Value places, Value x) {
  return b.emit(kTokenDots, {rows, places, x});
}

}  // namespace tessera::ops
