#include "models/model_config.h"

#include <vector>

#include "core/base/error.h"

namespace tessera::models {

void validate(const ModelConfig& config) {
  std::vector<std::string> problems;
  auto positive = [&](int64_t value, const char* name) {
    if (value < 1) problems.push_back(cat("model.", name, " is ", value, "; it must be at least 1"));
  };
  positive(config.layers, "layers");
  positive(config.embed, "embed");
  positive(config.heads, "heads");
  positive(config.kv_heads, "kv_heads");
  positive(config.head_dim, "head_dim");
  positive(config.mlp, "mlp");
  positive(config.vocab, "vocab");
  positive(config.context, "context");
  if (config.kv_heads > 0 && config.heads % config.kv_heads != 0)
    problems.push_back(cat("model.heads (", config.heads, ") must be a multiple of model.kv_heads (",
                           config.kv_heads, ")"));
  if (config.resolved_position() == Position::rotary && config.head_dim % 2 != 0)
    problems.push_back(cat("model.head_dim is ", config.head_dim,
                           "; rotary positions turn pairs, so it must be even"));
  if (config.attention_window < 0)
    problems.push_back(cat("model.attention_window is ", config.attention_window,
                           "; it must be at least 0, which is no window"));
  if (config.full_attention_interval < 0)
    problems.push_back(cat("model.full_attention_interval is ", config.full_attention_interval,
                           "; it must be at least 0"));
  if (config.resolved_position() == Position::relative) {
    if (config.relative_buckets < 2)
      problems.push_back(cat("model.relative_buckets is ", config.relative_buckets,
                             "; it must be at least 2"));
    else if (config.relative_max_distance <= config.relative_buckets / 2)
      problems.push_back(cat("model.relative_max_distance is ", config.relative_max_distance,
                             "; it must be above half of model.relative_buckets (",
                             config.relative_buckets, "), whose distances have buckets of their own"));
  }
  if (config.document_end >= config.vocab)
    problems.push_back(cat("the token that ends documents is ", config.document_end,
                           ", outside a vocabulary of ", config.vocab));
  if (config.padded_vocab < config.vocab)
    problems.push_back(cat("the embedding table has ", config.padded_vocab, " rows for a vocabulary of ",
                           config.vocab));
  if (!(config.dropout >= 0 && config.dropout < 1))
    problems.push_back(cat("model.dropout is ", config.dropout, "; it must be at least 0 and below 1"));
  if (!problems.empty()) throw_config_error(join(problems, "\n"));
}

}  // namespace tessera::models
