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
int64_t window_of(const OpCall& call) { return call.attributes.get_or<int64_t>(Attr::window, 0); }
int64_t bias_origin_of(const OpCall& call) {
  return call.attributes.get_or<int64_t>(Attr::bias_origin, 0);
}

// Whether the position of a query, and so of its shard, matters.
bool is_positional(const OpCall& call, const AttentionExtraIndices& at) {
  return is_causal(call) || at.distance_bias >= 0;
}

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

void check_extras(std::string_view op, const OpCall& call, size_t own) {
  const Sizes s(call.operands[0], call.operands[1]);
  const AttentionExtraIndices at = attention_extras(own, call);
  const auto type = [&](int i) { return call.operands[static_cast<size_t>(i)]; };
  int known = static_cast<int>(own);
  if (at.distance_bias >= 0) {
    const TensorType bias = type(known++);
    const DType wanted = statistics_dtype(call.operands[0].dtype);
    require(bias.dtype == wanted && bias.rank() == 2 && bias.shape[0] == s.heads && bias.shape[1] > 0,
            op, ": distance_bias must be ", wanted, "[", s.heads, ",n] with n > 0, not ", bias);
  }
  if (at.q_segments >= 0) {
    const TensorType queries{DType::s32, {s.batch, s.queries}}, keys{DType::s32, {s.batch, s.keys}};
    require(type(known) == queries && type(known + 1) == keys, op, ": segments must be ", queries,
            " and ", keys, ", not ", type(known), " and ", type(known + 1));
    known += 2;
  }
  check_operand_count(op, call, known, is_positional(call, at) ? 1 : 0);
  require(window_of(call) >= 0 && (window_of(call) == 0 || is_causal(call)), op, ": window ",
          window_of(call), is_causal(call) ? " is negative" : " needs causal");
  require(at.distance_bias >= 0 || !call.attributes.has(Attr::bias_origin), op,
          ": bias_origin needs a distance_bias operand");
}

// Which keys a query sees, and where the bias of a pair stands.
class Pairs {
 public:
  Pairs(const OpCall& call, std::span<const HostTensor* const> operands, size_t own)
      : sizes_(call.operands[0], call.operands[1]),
        causal_(is_causal(call)),
        window_(window_of(call)),
        origin_(bias_origin_of(call)) {
    const AttentionExtraIndices at = attention_extras(own, call);
    if (at.start >= 0) start_ = operands[static_cast<size_t>(at.start)]->get_int(0);
    if (at.distance_bias >= 0) bias_ = reals_of(*operands[static_cast<size_t>(at.distance_bias)]);
    if (at.q_segments < 0) return;
    q_segments_ = elements_of<int64_t>(*operands[static_cast<size_t>(at.q_segments)]);
    k_segments_ = elements_of<int64_t>(*operands[static_cast<size_t>(at.k_segments)]);
  }

  // Calls body(b, h, i) for every query.
  template <typename Body>
  void for_each_query(Body body) const {
    for (int64_t b = 0; b < sizes_.batch; ++b)
      for (int64_t h = 0; h < sizes_.heads; ++h)
        for (int64_t i = 0; i < sizes_.queries; ++i) body(b, h, i);
  }
  // Calls body(j) for every key that query i of sequence b sees.
  template <typename Body>
  void for_each_seen(int64_t b, int64_t i, Body body) const {
    const int64_t end = causal_ ? std::clamp<int64_t>(start_ + i + 1, 0, sizes_.keys) : sizes_.keys;
    const int64_t begin = window_ > 0 ? std::max<int64_t>(0, start_ + i + 1 - window_) : 0;
    for (int64_t j = begin; j < end; ++j)
      if (q_segments_.empty() ||
          q_segments_[b * sizes_.queries + i] == k_segments_[b * sizes_.keys + j])
        body(j);
  }
  int64_t bias_index(int64_t h, int64_t i, int64_t j) const {
    const int64_t columns = static_cast<int64_t>(bias_.size()) / sizes_.heads;
    return h * columns + std::clamp<int64_t>(start_ + i - j + origin_, 0, columns - 1);
  }
  double bias(int64_t h, int64_t i, int64_t j) const {
    return bias_.empty() ? 0 : bias_[bias_index(h, i, j)];
  }

 private:
  Sizes sizes_;
  bool causal_;
  int64_t window_, origin_, start_ = 0;
  std::vector<double> bias_;
  std::vector<int64_t> q_segments_, k_segments_;
};

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
  require(call.operands.size() >= kAttentionOperands, "attention: needs at least q, k and v, got ",
          types_text(call.operands));
  check_qkv("attention", call);
  check_extras("attention", call, kAttentionOperands);
  return {call.operands[0], lse_type(call)};
}

void eval_attention(const OpCall& call, std::span<const HostTensor* const> operands,
                    std::span<HostTensor> results) {
  const Sizes s(call.operands[0], call.operands[1]);
  const Pairs pairs(call, operands, kAttentionOperands);
  const std::vector<double> q = reals_of(*operands[0]), k = reals_of(*operands[1]),
                            v = reals_of(*operands[2]);
  const double scale = call.attributes.number(Attr::scale);
  std::vector<double> out(q.size(), 0), lse(static_cast<size_t>(s.batch * s.heads * s.queries));
  std::vector<double> scores(static_cast<size_t>(s.keys));
  pairs.for_each_query([&](int64_t b, int64_t h, int64_t i) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    pairs.for_each_seen(b, i, [&](int64_t j) {
      scores[j] = scale * dot(&q[s.query(b, h, i)], &k[s.key(b, h, j)], s.width) +
                  pairs.bias(h, i, j);
      largest = std::max(largest, scores[j]);
    });
    pairs.for_each_seen(b, i, [&](int64_t j) { sum += std::exp(scores[j] - largest); });
    const double total = lse[s.row(b, h, i)] = sum == 0 ? largest : largest + std::log(sum);
    pairs.for_each_seen(b, i, [&](int64_t j) {
      add_scaled(&out[s.query(b, h, i)], std::exp(scores[j] - total), &v[s.key(b, h, j)], s.width);
    });
  });
  set_reals(results[0], out);
  set_reals(results[1], lse);
}

AttentionOptions options_of(const OpCall& call) {
  return {is_causal(call), call.attributes.number(Attr::scale), window_of(call),
          bias_origin_of(call)};
}

std::vector<Value> grad_attention(GradContext& c) {
  require(!c.has_cotangent(1), "attention: result 1 (lse) is a residual and takes no gradient");
  std::vector<TensorType> types;
  for (int i = 0; i < c.operand_count(); ++i) types.push_back(c.builder().type(c.operand(i)));
  const OpCall call{types, c.attributes()};
  const AttentionExtraIndices at = attention_extras(kAttentionOperands, call);
  const auto operand = [&](int index) { return index < 0 ? Value{} : c.operand(index); };
  const bool bias_gradient = at.distance_bias >= 0 && c.needs_gradient(at.distance_bias);
  const auto grad = attention_grad(c.builder(), c.operand(0), c.operand(1), c.operand(2), c.result(0),
                                   c.result(1), c.cotangent(0), options_of(call),
                                   {operand(at.distance_bias), operand(at.q_segments),
                                    operand(at.k_segments), operand(at.start)},
                                   bias_gradient);
  std::vector<Value> cotangents{grad.dq, grad.dk, grad.dv};
  cotangents.resize(types.size());
  for (int i = 0; i < 3; ++i)
    if (!c.needs_gradient(i)) cotangents[i] = Value{};
  if (bias_gradient) cotangents[at.distance_bias] = grad.d_distance_bias;
  return cotangents;
}

// Batch, query, head, key and width factors with heads = (kv g). In the gradient the queries and g
// are summed over in dk and dv, and the batch too in the bias' gradient.
struct AttentionFactors {
  AttentionFactors(FactorRule& rule, const OpCall& call, size_t own, FactorKind query_kind,
                   FactorKind batch_kind) {
    const Sizes s(call.operands[0], call.operands[1]);
    const AttentionExtraIndices at = attention_extras(own, call);
    const int batch = add_factor(rule, s.batch, batch_kind);
    const int queries =
        add_factor(rule, s.queries, query_kind, ReduceKind::sum, is_positional(call, at));
    const int kv = add_factor(rule, s.kv_heads), group = add_factor(rule, s.group(), query_kind);
    const int keys = add_factor(rule, s.keys, FactorKind::need_replication);
    const int width = add_factor(rule, s.width, FactorKind::need_replication);
    query = dims_of(std::vector<std::vector<int>>{{batch}, {queries}, {kv, group}, {width}});
    key = dims_of(std::vector<std::vector<int>>{{batch}, {keys}, {kv}, {width}});
    lse = dims_of(std::vector<std::vector<int>>{{batch}, {kv, group}, {queries}});
    if (at.distance_bias >= 0) {
      const int distances = add_factor(rule, call.operands[at.distance_bias].shape[1],
                                       FactorKind::need_replication);
      bias = dims_of(std::vector<std::vector<int>>{{kv, group}, {distances}});
      extras.push_back(bias);
    }
    if (at.q_segments < 0) return;
    extras.push_back(dims_of(std::vector<int>{batch, queries}));
    extras.push_back(dims_of(std::vector<int>{batch, keys}));
  }
  TensorFactors query, key, lse, bias;
  std::vector<TensorFactors> extras;
};

FactorRule attention_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const AttentionFactors dims(rule, call, kAttentionOperands, FactorKind::pass_through,
                              FactorKind::pass_through);
  rule.operands = {dims.query, dims.key, dims.key};
  rule.operands.insert(rule.operands.end(), dims.extras.begin(), dims.extras.end());
  rule.results = {dims.query, dims.lse};
  add_starts(rule, call);
  return rule;
}

// `products` products over the query-key pairs that are seen.
double pair_flops(const OpCall& call, double products) {
  const Sizes s(call.operands[0], call.operands[1]);
  return 2 * products * static_cast<double>(s.batch * s.heads * s.width) *
         attention_pairs(s.queries, s.keys, is_causal(call), window_of(call));
}
double attention_flops(const OpCall& call, std::span<const TensorType>) {
  return pair_flops(call, 2);
}

// Samples of attention, or (with_gradient) of attention_grad. There any numbers do for out and lse,
// so segments may hide all keys of a query; here some key has to be seen, or lse is infinite.
std::vector<OpSample> samples_of(bool with_gradient) {
  std::vector<OpSample> samples;
  const auto add = [&](DType dtype, int64_t keys, int64_t heads, int64_t kv_heads,
                       Attributes attributes, int64_t distances = 0, bool segments = false) {
    const TensorType q{dtype, {2, 4, heads, 2}}, k{dtype, {2, keys, kv_heads, 2}};
    OpSample sample{{q, k, k}, std::move(attributes), {}, dtype == DType::f64 && !with_gradient};
    sample.attributes.set(Attr::scale, 0.7);
    if (with_gradient)
      for (const TensorType& type : {q, lse_type({sample.operands, sample.attributes}), q})
        sample.operands.push_back(type);
    if (distances > 0) sample.operands.push_back({statistics_dtype(dtype), {heads, distances}});
    if (segments) {
      sample.ranges.resize(sample.operands.size(), {-1, 1});
      const bool hides_all = with_gradient || keys > 8;
      for (int64_t length : {q.shape[1], keys}) {
        sample.operands.push_back({DType::s32, {2, length}});
        sample.ranges.push_back({0, hides_all ? 1 : 0});
      }
    }
    if (with_gradient && distances > 0) {
      samples.push_back(sample);
      sample.attributes.set(Attr::bias_gradient, true);
    }
    samples.push_back(sample);
  };
  add(DType::f64, 4, 4, 2, {{Attr::causal, true}});
  add(DType::f64, 6, 2, 2, {{Attr::causal, false}});
  add(DType::f64, 4, 4, 1, {{Attr::causal, true}});
  add(DType::bf16, 4, 2, 2, {{Attr::causal, true}});
  add(DType::f64, 4, 4, 2, {{Attr::causal, true}, {Attr::window, int64_t{2}}});
  add(DType::f64, 4, 4, 2, {{Attr::causal, true}}, 3);
  add(DType::f64, 16, 4, 2, {{Attr::causal, false}}, 0, true);
  add(DType::f64, 6, 4, 4, {{Attr::causal, false}, {Attr::bias_origin, int64_t{4}}}, 7);
  add(DType::f64, 4, 4, 1, {{Attr::causal, true}, {Attr::window, int64_t{3}}}, 4, true);
  add(DType::bf16, 4, 4, 2, {{Attr::causal, true}, {Attr::window, int64_t{3}}}, 4, true);
  return samples;
}
std::vector<OpSample> attention_samples() { return samples_of(/*with_gradient=*/false); }

// ---- attention_grad -----------------------------------------------------------------------------

bool has_bias_gradient(const OpCall& call) { return call.attributes.flag(Attr::bias_gradient); }

std::vector<TensorType> infer_attention_grad(const OpCall& call) {
  require(call.operands.size() >= kAttentionGradOperands,
          "attention_grad: needs at least q, k, v, out, lse and dout, got ",
          types_text(call.operands));
  check_qkv("attention_grad", call);
  for (int operand : {3, 5})
    require(call.operands[operand] == call.operands[0], "attention_grad: operand ", operand,
            " must be like q ", call.operands[0], ", not ", call.operands[operand]);
  require(call.operands[4] == lse_type(call), "attention_grad: lse must be ", lse_type(call),
          ", not ", call.operands[4]);
  check_extras("attention_grad", call, kAttentionGradOperands);
  std::vector<TensorType> results{call.operands[0], call.operands[1], call.operands[2]};
  const int bias = attention_extras(kAttentionGradOperands, call).distance_bias;
  require(bias >= 0 || !has_bias_gradient(call),
          "attention_grad: bias_gradient needs a distance_bias operand");
  if (has_bias_gradient(call)) results.push_back(call.operands[bias]);
  return results;
}

// p = exp(score - lse); dscore = p (dout.v - dout.out) (Dao et al. 2022, algorithm 4).
void eval_attention_grad(const OpCall& call, std::span<const HostTensor* const> operands,
                         std::span<HostTensor> results) {
  const Sizes s(call.operands[0], call.operands[1]);
  const Pairs pairs(call, operands, kAttentionGradOperands);
  const std::vector<double> q = reals_of(*operands[0]), k = reals_of(*operands[1]),
                            v = reals_of(*operands[2]), out = reals_of(*operands[3]),
                            lse = reals_of(*operands[4]), dout = reals_of(*operands[5]);
  const double scale = call.attributes.number(Attr::scale);
  std::vector<double> dq(q.size(), 0), dk(k.size(), 0), dv(v.size(), 0);
  std::vector<double> dbias(
      has_bias_gradient(call) ? static_cast<size_t>(results[3].elements()) : 0, 0);
  pairs.for_each_query([&](int64_t b, int64_t h, int64_t i) {
    const int64_t at_q = s.query(b, h, i);
    const double mean = dot(&out[at_q], &dout[at_q], s.width);
    pairs.for_each_seen(b, i, [&](int64_t j) {
      const int64_t at_k = s.key(b, h, j);
      const double p = std::exp(scale * dot(&q[at_q], &k[at_k], s.width) + pairs.bias(h, i, j) -
                                lse[s.row(b, h, i)]);
      const double dscore = p * (dot(&dout[at_q], &v[at_k], s.width) - mean);
      add_scaled(&dq[at_q], scale * dscore, &k[at_k], s.width);
      add_scaled(&dk[at_k], scale * dscore, &q[at_q], s.width);
      add_scaled(&dv[at_k], p, &dout[at_q], s.width);
      if (!dbias.empty()) dbias[pairs.bias_index(h, i, j)] += dscore;
    });
  });
  set_reals(results[0], dq);
  set_reals(results[1], dk);
  set_reals(results[2], dv);
  if (has_bias_gradient(call)) set_reals(results[3], dbias);
}

FactorRule attention_grad_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  const AttentionFactors dims(
      rule, call, kAttentionGradOperands, FactorKind::reduction,
      has_bias_gradient(call) ? FactorKind::reduction : FactorKind::pass_through);
  rule.operands = {dims.query, dims.key, dims.key, dims.query, dims.lse, dims.query};
  rule.operands.insert(rule.operands.end(), dims.extras.begin(), dims.extras.end());
  rule.results = {dims.query, dims.key, dims.key};
  if (has_bias_gradient(call)) rule.results.push_back(dims.bias);
  add_starts(rule, call);
  return rule;
}

// With out and lse given, every result is a sum of terms with one factor dout.
std::vector<LinearSet> linear_attention_grad(const OpCall&) { return {{{5}, ReduceKind::sum}}; }

double attention_grad_flops(const OpCall& call, std::span<const TensorType>) {
  return pair_flops(call, 5);
}

std::vector<OpSample> attention_grad_samples() { return samples_of(/*with_gradient=*/true); }

// ---- Calls --------------------------------------------------------------------------------------

void push_extras(std::vector<Value>& operands, const AttentionExtras& extras) {
  for (Value extra : {extras.distance_bias, extras.q_segments, extras.k_segments, extras.start})
    if (extra.valid()) operands.push_back(extra);
}

// What is 0 stays out, so that calls without the extras look as they always did.
Attributes attributes_of(const AttentionOptions& options) {
  Attributes attributes{{Attr::causal, options.causal}, {Attr::scale, options.scale}};
  if (options.window != 0) attributes.set(Attr::window, options.window);
  if (options.bias_origin != 0) attributes.set(Attr::bias_origin, options.bias_origin);
  return attributes;
}

}  // namespace

const OpDef kAttention{.name = "attention",
                       .attributes = {Attr::causal, Attr::scale},
                       .optional_attributes = {Attr::window, Attr::bias_origin},
                       .infer = infer_attention,
                       .eval = eval_attention,
                       .grad = grad_attention,
                       .factors = attention_factors,
                       .flops = attention_flops,
                       .samples = attention_samples,
                       .multiplies_matrices = true};
const OpDef kAttentionGrad{.name = "attention_grad",
                           .attributes = {Attr::causal, Attr::scale},
                           .optional_attributes = {Attr::window, Attr::bias_origin,
                                                   Attr::bias_gradient},
                           .infer = infer_attention_grad,
                           .eval = eval_attention_grad,
                           .factors = attention_grad_factors,
                           .linear = linear_attention_grad,
                           .flops = attention_grad_flops,
                           .samples = attention_grad_samples};

AttentionResult attention(Builder& b, Value q, Value k, Value v, const AttentionOptions& options,
                          const AttentionExtras& extras) {
  std::vector<Value> operands{q, k, v};
  push_extras(operands, extras);
  const Value out = b.emit(kAttention, operands, attributes_of(options));
  return {out, {out.instruction, 1}};
}

AttentionGradResult attention_grad(Builder& b, Value q, Value k, Value v, Value out, Value lse,
                                   Value dout, const AttentionOptions& options,
                                   const AttentionExtras& extras, bool bias_gradient) {
  std::vector<Value> operands{q, k, v, out, lse, dout};
  push_extras(operands, extras);
  Attributes attributes = attributes_of(options);
  if (bias_gradient) attributes.set(Attr::bias_gradient, true);
  const Value dq = b.emit(kAttentionGrad, operands, attributes);
  const auto result = [&](int i) { return Value{dq.instruction, i}; };
  return {dq, result(1), result(2), bias_gradient ? result(3) : Value{}};
}

// With all n keys and queries, a window of w <= n sees sum min(p + 1, w) = w n - w (w - 1) / 2
// pairs; the small term is left out, as in "half when causal".
double attention_pairs(int64_t queries, int64_t keys, bool causal, int64_t window) {
  const auto all = static_cast<double>(queries) * static_cast<double>(keys);
  if (!causal) return all;
  if (window <= 0 || window >= keys) return all / 2;
  const double part = static_cast<double>(window) / static_cast<double>(keys);
  return all * (part - part * part / 2);
}

}  // namespace tessera::ops
