#include "models/decoder.h"

#include <cmath>

#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/structure.h"
#include "models/layers.h"
#include "models/positions.h"

namespace tessera::models {
namespace {

double residual_std(const ModelConfig& config) {
  return config.scale_residual_init ? config.init_std / std::sqrt(2.0 * static_cast<double>(config.layers))
                                    : config.init_std;
}

Value embedding_table(ParameterScope& scope, const ModelConfig& config) {
  return scope.weight("embedding.weight", {config.padded_vocab, config.embed}, {"vocab", "embed"},
                      {.std = config.init_std}, config.vocab);
}

Value embed(ParameterScope& scope, const ModelConfig& config, Value tokens) {
  Builder& builder = scope.builder();
  const ScopeGuard guard(builder, "embedding");
  const Shape shape = builder.shape(tokens);
  Value x = ops::embedding(builder, embedding_table(scope, config), tokens);
  builder.annotate(x, {"batch", "length", "embed"});
  if (config.resolved_position() != Position::learned) return x;
  Value positions = scope.weight("positions.weight", {config.context, config.embed},
                                 {"positions", "embed"}, {.std = config.init_std});
  if (shape[1] < config.context)
    positions = ops::slice(builder, positions, {0, 0}, {shape[1], config.embed});
  x = ops::add(builder, x, ops::broadcast_in_dim(builder, positions, builder.shape(x), {1, 2}));
  return builder.annotate(x, {"batch", "length", "embed"});
}

Value norm(ParameterScope& scope, const ModelConfig& config, const std::string& name, Value x) {
  return config.family == Family::gpt2 ? layer_norm(scope, name, x, config.norm_epsilon)
                                       : rms_norm(scope, name, x, config.norm_epsilon);
}

Value mlp(ParameterScope& scope, const ModelConfig& config, const std::string& name, Value x) {
  if (config.family != Family::gpt2)
    return swiglu_mlp(scope, name, x, config.mlp, config.init_std, residual_std(config));
  const auto gelu = [](Builder& b, Value v) { return ops::gelu(b, v, /*is_approximate=*/true); };
  return plain_mlp(scope, name, x, config.mlp, gelu, config.init_std, residual_std(config));
}

Value residual_add(Builder& builder, Value x, Value branch) {
  return builder.annotate(ops::add(builder, x, branch), {"batch", "length", "embed"});
}

// What all layers' attention shares; invalid where the model has none.
struct Shared {
  Value distance_bias, segments;
};
Shared shared_by_layers(ParameterScope& scope, const ModelConfig& config, Value tokens) {
  Shared shared;
  const int64_t length = scope.builder().shape(tokens)[1];
  if (config.resolved_position() == Position::alibi)
    shared.distance_bias = alibi_bias(scope, config.heads, length);
  if (config.resolved_position() == Position::relative)
    shared.distance_bias = relative_bias(scope, config.heads, length, config.relative_buckets,
                                         config.relative_max_distance, config.init_std);
  if (config.document_end >= 0)
    shared.segments = document_segments(scope.builder(), tokens, config.document_end);
  return shared;
}

Value block(ParameterScope& scope, const ModelConfig& config, int64_t layer, const Shared& shared,
            Value x, Dropout& dropout) {
  Builder& builder = scope.builder();
  const std::string name = cat("block.", layer);
  const ScopeGuard guard(builder, name);
  const AttentionOptions attention{.heads = config.heads, .kv_heads = config.kv_heads,
                                   .head_dim = config.head_dim, .bias = config.family == Family::gpt2,
                                   .rotary = config.resolved_position() == Position::rotary,
                                   .rope_theta = config.rope_theta, .init_std = config.init_std,
                                   .out_init_std = residual_std(config),
                                   .window = config.window_of(layer),
                                   .distance_bias = shared.distance_bias,
                                   .segments = shared.segments};
  const Value attended = self_attention(scope, name + ".attention", norm(scope, config, name + ".norm1", x), attention);
  x = residual_add(builder, x, dropout(builder, attended));
  const Value widened = mlp(scope, config, name + ".mlp", norm(scope, config, name + ".norm2", x));
  return residual_add(builder, x, dropout(builder, widened));
}

}  // namespace

Value decoder_logits(ParameterScope& scope, const ModelConfig& config, Value tokens, Dropout dropout) {
  validate(config);
  Builder& builder = scope.builder();
  const int64_t length = builder.shape(tokens)[1];
  if (length > config.context)
    throw_user_error("a sequence of ", length, " tokens does not fit model.context = ", config.context);
  Value x = dropout(builder, embed(scope, config, tokens));
  const Shared shared = shared_by_layers(scope, config, tokens);
  for (int64_t layer = 0; layer < config.layers; ++layer) x = block(scope, config, layer, shared, x, dropout);
  const ScopeGuard guard(builder, "head");
  x = norm(scope, config, "final_norm", x);
  const Value table = config.tied_embeddings
                          ? embedding_table(scope, config)
                          : scope.weight("head.weight", {config.padded_vocab, config.embed},
                                         {"vocab", "embed"}, {.std = config.init_std}, config.vocab);
  const Value logits = ops::dot_general(builder, x, table, {.lhs_contracting = {2}, .rhs_contracting = {1}});
  return builder.annotate(logits, {"batch", "length", "vocab"});
}

std::vector<ParameterSpec> parameter_specs(const ModelConfig& config, DType compute, std::optional<DType> stored) {
  Graph graph;
  Builder builder(graph);
  ParameterScope scope(builder, compute, stored);
  const Value tokens = builder.input(InputKind::data, "tokens", {DType::s32, {1, 1}}, {"batch", "length"});
  decoder_logits(scope, config, tokens);
  return scope.specs();
}

int64_t parameter_count(const std::vector<ParameterSpec>& specs) {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs) {
    const int64_t rows = spec.type.rank() > 0 ? spec.type.shape[0] : 1;
    count += spec.type.elements() / rows * (spec.valid_rows >= 0 ? spec.valid_rows : rows);
  }
  return count;
}

double train_flops_per_token(const ModelConfig& config, int64_t sequence_length) {
  const double attention_width = static_cast<double>(config.heads * config.head_dim);
  const double kv_width = static_cast<double>(config.kv_heads * config.head_dim);
  const double embed = static_cast<double>(config.embed);
  const double mlp_matrices = config.family == Family::gpt2 ? 2 : 3;
  const double layers = static_cast<double>(config.layers);
  const double products = layers * (2 * embed * attention_width + 2 * embed * kv_width +
                                    mlp_matrices * embed * static_cast<double>(config.mlp)) +
                          embed * static_cast<double>(config.vocab);
  double pairs = 0;  // a token sees on average, over the layers
  for (int64_t layer = 0; layer < config.layers; ++layer)
    pairs += ops::attention_pairs(1, sequence_length, /*causal=*/true, config.window_of(layer));
  return 6 * products + 12 * attention_width * pairs;
}

}  // namespace tessera::models
