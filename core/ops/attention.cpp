#include "core/ops/attention.h"

#include <cmath>
#include <limits>

#include "core/ops/norm.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// Sizes of one attention, from the types of q and k.
struct Sizes {
  Sizes(const TensorType& q, const TensorType& k)
      : batch(q.shape[0]),
        queries(q.shape[1]),
        keys(k.shape[1]),
        heads(q.shape[2]),
        kv_heads(k.shape[2]),
        width(q.shape[3]) {}
  int64_t batch, queries, keys, heads, kv_heads, width;

  int64_t group() const { return heads / kv_heads; }
  int64_t query(int64_t b, int64_t h, int64_t i) const {
    return ((b * queries + i) * heads + h) * width;
  }
  int64_t key(int64_t b, int64_t h, int64_t j) const {
    return ((b * keys + j) * kv_heads + h / group()) * width;
  }
  int64_t row(int64_t b, int64_t h, int64_t i) const { return (b * heads + h) * queries + i; }
};

TensorType lse_type(const OpCall& call) {
  const TensorType& q = call.operands[0];
  return {statistics_dtype(q.dtype), {q.shape[0], q.shape[2], q.shape[1]}};
}

bool is_causal(const OpCall& call) { return call.attributes.flag(Attr::causal); }

void check_qkv(std::string_view op, const OpCall& call) {
  const TensorType &q = call.operands[0], &k = call.operands[1], &v = call.operands[2];
  check_float(op, call, 0);
  require(k == v && q.dtype == k.dtype && q.rank() == 4 && k.rank() == 4, op,
          ": needs q [b,lq,h,d] and k, v [b,lk,kv,d] of one float type, got ", q, ", ", k, " and ",
          v);
  require(q.shape[0] == k.shape[0] && q.shape[3] == k.shape[3], op, ": q ", q, " and k ", k,
          " differ in batch or head size");
  require(k.shape[2] > 0 && q.shape[2] % k.shape[2] == 0, op, ": ", q.shape[2], " query heads of ",
          q, " are not a multiple of the ", k.shape[2], " key heads of ", k);
}

// Calls body(b, h, i, number of keys that query i sees).
template <typename Body>
void for_each_query(const OpCall& call, int64_t start, const Sizes& s, Body body) {
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = 0; i < s.queries; ++i)
        body(b, h, i, is_causal(call) ? std::clamp<int64_t>(start + i + 1, 0, s.keys) : s.keys);
}

double dot(const double* a, const double* b, int64_t size) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

void add_scaled(double* to, double factor, const double* from, int64_t size) {
  for (int64_t i = 0; i < size; ++i) to[i] += factor * from[i];
}

// ---- attention ----------------------------------------------------------------------------------

std::vector<TensorType> infer_attention(const OpCall& call) {
  check_operand_count("attention", call, 3, is_causal(call) ? 1 : 0);
  check_qkv("attention", call);
  return {call.operands[0], lse_type(call)};
}

void eval_attention(const OpCall& call, std::span<const HostTensor* const> operands,
                    std::span<HostTensor> results) {
  const Sizes s(call.operands[0], call.operands[1]);
  const std::vector<double> q = reals_of(*operands[0]), k = reals_of(*operands[1]),
                            v = reals_of(*operands[2]);
  const double scale = call.attributes.number(Attr::scale);
  std::vector<double> out(q.size(), 0), lse(static_cast<size_t>(s.batch * s.heads * s.queries));
  std::vector<double> scores(static_cast<size_t>(s.keys));
  for_each_query(
      call, start_of(operands, 3), s, [&](int64_t b, int64_t h, int64_t i, int64_t seen) {
        double largest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t j = 0; j < seen; ++j) {
          scores[j] = scale * dot(&q[s.query(b, h, i)], &k[s.key(b, h, j)], s.width);
          largest = std::max(largest, scores[j]);
        }
        for (int64_t j = 0; j < seen; ++j) sum += std::exp(scores[j] - largest);
        const double total = lse[s.row(b, h, i)] = seen ? largest + std::log(sum) : largest;
        for (int64_t j = 0; j < seen; ++j)
          add_scaled(&out[s.query(b, h, i)], std::exp(scores[j] - total), &v[s.key(b, h, j)],
                     s.width);
      });
  set_reals(results[0], out);
  set_reals(results[1], lse);
}

AttentionOptions options_of(const Attributes& attributes) {
  return {attributes.flag(Attr::causal), attributes.number(Attr::scale)};
}

std::vector<Value> grad_attention(GradContext& c) {
  require(!c.has_cotangent(1), "attention: result 1 (lse) is a residual and takes no gradient");
  std::optional<Value> start;
  if (c.operand_count() > 3) start = c.operand(3);
  const auto grad =
      attention_grad(c.builder(), c.operand(0), c.operand(1), c.operand(2), c.result(0),
                     c.result(1), c.cotangent(0), options_of(c.attributes()), start);
  std::vector<Value> cotangents{grad.dq, grad.dk, grad.dv};
  cotangents.resize(static_cast<size_t>(c.operand_count()));
  for (int i = 0; i < 3; ++i)
    if (!c.needs_gradient(i)) cotangents[i] = Value{};
  return cotangents;
}

// Batch, query, head, key and width factors with heads = (kv g). In the gradient the queries and g
// are summed over in dk and dv.
struct AttentionFactors {
  AttentionFactors(FactorRule& rule, const OpCall& call, FactorKind query_kind) {
    const Sizes s(call.operands[0], call.operands[1]);
    const int batch = add_factor(rule, s.batch);
    const int queries = add_factor(rule, s.queries, query_kind, ReduceKind::sum, is_causal(call));
    const int kv = add_factor(rule, s.kv_heads), group = add_factor(rule, s.group(), query_kind);
    const int keys = add_factor(rule, s.keys, FactorKind::need_replication);
    const int width = add_factor(rule, s.width, FactorKind::need_replication);
    query = dims_of(std::vector<std::vector<int>>{{batch}, {queries}, {kv, group}, {width}});
    key = dims_of(std::vector<std::vector<int>>{{batch}, {keys}, {kv}, {width}});
    lse = dims_of(std::vector<std::vector<int>>{{batch}, {kv, group}, {queries}});
  }
  TensorFactors query, key, lse;
};

FactorRule attention_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const AttentionFactors dims(rule, call, FactorKind::pass_through);
  rule.operands = {dims.query, dims.key, dims.key};
  rule.results = {dims.query, dims.lse};
  add_starts(rule, call);
  return rule;
}

// Products over the query-key pairs that are seen, which are about half of them when causal.
double pair_flops(const OpCall& call, double products) {
  const Sizes s(call.operands[0], call.operands[1]);
  const auto all =
      static_cast<double>(s.batch * s.heads) * static_cast<double>(s.queries * s.keys * s.width);
  return 2 * products * all * (is_causal(call) ? 0.5 : 1.0);
}
double attention_flops(const OpCall& call, std::span<const TensorType>) {
  return pair_flops(call, 2);
}

std::vector<OpSample> attention_samples() {
  std::vector<OpSample> samples;
  auto add = [&](DType dtype, int64_t keys, int64_t heads, int64_t kv_heads, bool causal) {
    const TensorType q{dtype, {2, 4, heads, 2}}, k{dtype, {2, keys, kv_heads, 2}};
    samples.push_back(
        {{q, k, k}, {{Attr::causal, causal}, {Attr::scale, 0.7}}, {}, dtype == DType::f64});
  };
  add(DType::f64, 4, 4, 2, true);
  add(DType::f64, 6, 2, 2, false);
  add(DType::f64, 4, 4, 1, true);
  add(DType::bf16, 4, 2, 2, true);
  return samples;
}

// ---- attention_grad -----------------------------------------------------------------------------

std::vector<TensorType> infer_attention_grad(const OpCall& call) {
  check_operand_count("attention_grad", call, 6, is_causal(call) ? 1 : 0);
  check_qkv("attention_grad", call);
  for (int operand : {3, 5})
    require(call.operands[operand] == call.operands[0], "attention_grad: operand ", operand,
            " must be like q ", call.operands[0], ", not ", call.operands[operand]);
  require(call.operands[4] == lse_type(call), "attention_grad: lse must be ", lse_type(call),
          ", not ", call.operands[4]);
  return {call.operands[0], call.operands[1], call.operands[2]};
}

// p = exp(score - lse); dscore = p (dout.v - dout.out) (Dao et al. 2022, algorithm 4).
void eval_attention_grad(const OpCall& call, std::span<const HostTensor* const> operands,
                         std::span<HostTensor> results) {
  const Sizes s(call.operands[0], call.operands[1]);
  const std::vector<double> q = reals_of(*operands[0]), k = reals_of(*operands[1]),
                            v = reals_of(*operands[2]), out = reals_of(*operands[3]),
                            lse = reals_of(*operands[4]), dout = reals_of(*operands[5]);
  const double scale = call.attributes.number(Attr::scale);
  std::vector<double> dq(q.size(), 0), dk(k.size(), 0), dv(v.size(), 0);
  for_each_query(
      call, start_of(operands, 6), s, [&](int64_t b, int64_t h, int64_t i, int64_t seen) {
        const int64_t at_q = s.query(b, h, i);
        const double mean = dot(&out[at_q], &dout[at_q], s.width);
        for (int64_t j = 0; j < seen; ++j) {
          const int64_t at_k = s.key(b, h, j);
          const double p = std::exp(scale * dot(&q[at_q], &k[at_k], s.width) - lse[s.row(b, h, i)]);
          const double slope = scale * p * (dot(&dout[at_q], &v[at_k], s.width) - mean);
          add_scaled(&dq[at_q], slope, &k[at_k], s.width);
          add_scaled(&dk[at_k], slope, &q[at_q], s.width);
          add_scaled(&dv[at_k], p, &dout[at_q], s.width);
        }
      });
  set_reals(results[0], dq);
  set_reals(results[1], dk);
  set_reals(results[2], dv);
}

FactorRule attention_grad_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const AttentionFactors dims(rule, call, FactorKind::reduction);
  rule.operands = {dims.query, dims.key, dims.key, dims.query, dims.lse, dims.query};
  rule.results = {dims.query, dims.key, dims.key};
  add_starts(rule, call);
  return rule;
}

// With out and lse given, every result is a sum of terms with one factor dout.
std::vector<LinearSet> linear_attention_grad(const OpCall&) { return {{{5}, ReduceKind::sum}}; }

double attention_grad_flops(const OpCall& call, std::span<const TensorType>) {
  return pair_flops(call, 5);
}

std::vector<OpSample> attention_grad_samples() {
  std::vector<OpSample> samples = attention_samples();
  for (OpSample& sample : samples) {
    const TensorType q = sample.operands[0];
    sample.operands.push_back(q);
    sample.operands.push_back(lse_type({sample.operands, sample.attributes}));
    sample.operands.push_back(q);
    sample.differentiable = false;
  }
  return samples;
}

// ---- rotary -------------------------------------------------------------------------------------

std::vector<TensorType> infer_rotary(const OpCall& call) {
  check_operand_count("rotary", call, 1, 1);
  check_float("rotary", call, 0);
  const TensorType& x = call.operands[0];
  require(x.rank() == 4 && x.shape[3] % 2 == 0, "rotary: needs [b,l,h,d] with even d, got ", x);
  return {x};
}

void eval_rotary(const OpCall& call, std::span<const HostTensor* const> operands,
                 std::span<HostTensor> results) {
  const Shape& shape = call.operands[0].shape;
  const int64_t start = start_of(operands, 1), half = shape[3] / 2;
  const double theta = call.attributes.number(Attr::theta),
               sign = call.attributes.flag(Attr::inverse) ? -1 : 1;
  std::vector<double> x = reals_of(*operands[0]);
  for (int64_t row = 0; row < shape[0] * shape[1] * shape[2]; ++row) {
    const auto position = static_cast<double>(start + row / shape[2] % shape[1]);
    double* pairs = x.data() + row * shape[3];
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          position * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(shape[3]));
      const double cosine = std::cos(angle), sine = sign * std::sin(angle);
      const double a = pairs[i], b = pairs[i + half];
      pairs[i] = a * cosine - b * sine;
      pairs[i + half] = b * cosine + a * sine;
    }
  }
  set_reals(results[0], x);
}

std::vector<Value> grad_rotary(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  std::optional<Value> start;
  if (c.operand_count() > 1) start = c.operand(1);
  if (c.needs_gradient(0))
    cotangents[0] = rotary(c.builder(), c.cotangent(0), c.attributes().number(Attr::theta),
                           !c.attributes().flag(Attr::inverse), start);
  return cotangents;
}

FactorRule rotary_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const Shape& shape = call.operands[0].shape;
  const TensorFactors dims = dims_of(
      {add_factor(rule, shape[0]),
       add_factor(rule, shape[1], FactorKind::pass_through, ReduceKind::sum, true),
       add_factor(rule, shape[2]), add_factor(rule, shape[3], FactorKind::need_replication)});
  rule.operands = rule.results = {dims};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear_rotary(const OpCall&) { return {{{0}, ReduceKind::sum}}; }

double rotary_flops(const OpCall&, std::span<const TensorType> results) {
  return 3.0 * static_cast<double>(results[0].elements());
}

std::vector<OpSample> rotary_samples() {
  return {{{{DType::f64, {2, 4, 2, 4}}}, {{Attr::theta, 10000.0}}},
          {{{DType::f64, {2, 4, 2, 4}}}, {{Attr::theta, 100.0}, {Attr::inverse, true}}},
          {{{DType::bf16, {2, 4, 2, 4}}}, {{Attr::theta, 10000.0}}, {}, false}};
}

void push_start(std::vector<Value>& operands, std::optional<Value> start) {
  if (start) operands.push_back(*start);
}

}  // namespace

const OpDef kAttention{.name = "attention",
                       .attributes = {Attr::causal, Attr::scale},
                       .infer = infer_attention,
                       .eval = eval_attention,
                       .grad = grad_attention,
                       .factors = attention_factors,
                       .flops = attention_flops,
                       .samples = attention_samples};
const OpDef kAttentionGrad{.name = "attention_grad",
                           .attributes = {Attr::causal, Attr::scale},
                           .infer = infer_attention_grad,
                           .eval = eval_attention_grad,
                           .factors = attention_grad_factors,
                           .linear = linear_attention_grad,
                           .flops = attention_grad_flops,
                           .samples = attention_grad_samples};
const OpDef kRotary{.name = "rotary",
                    .attributes = {Attr::theta},
                    .optional_attributes = {Attr::inverse},
                    .infer = infer_rotary,
                    .eval = eval_rotary,
                    .grad = grad_rotary,
                    .factors = rotary_factors,
                    .linear = linear_rotary,
                    .flops = rotary_flops,
                    .samples = rotary_samples};

AttentionResult attention(Builder& b, Value q, Value k, Value v, const AttentionOptions& options,
                          std::optional<Value> start) {
  std::vector<Value> operands{q, k, v};
  push_start(operands, start);
  const Value out =
      b.emit(kAttention, operands, {{Attr::causal, options.causal}, {Attr::scale, options.scale}});
  return {out, {out.instruction, 1}};
}

AttentionGradResult attention_grad(Builder& b, Value q, Value k, Value v, Value out, Value lse,
                                   Value dout, const AttentionOptions& options,
                                   std::optional<Value> start) {
  std::vector<Value> operands{q, k, v, out, lse, dout};
  push_start(operands, start);
  const Value dq = b.emit(kAttentionGrad, operands,
                          {{Attr::causal, options.causal}, {Attr::scale, options.scale}});
  return {dq, {dq.instruction, 1}, {dq.instruction, 2}};
}

Value rotary(Builder& b, Value x, double theta, bool inverse, std::optional<Value> start) {
  std::vector<Value> operands{x};
  push_start(operands, start);
  Attributes attributes{{Attr::theta, theta}};
  if (inverse) attributes.set(Attr::inverse, true);
  return b.emit(kRotary, operands, attributes);
}

}  // namespace tessera::ops
