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
  if (config.family == Family::llama && config.head_dim % 2 != 0)
    problems.push_back(cat("model.head_dim is ", config.head_dim,
                           "; rotary positions turn pairs, so it must be even"));
  if (config.padded_vocab < config.vocab)
    problems.push_back(cat("the embedding table has ", config.padded_vocab, " rows for a vocabulary of ",
                           config.vocab));
  if (!problems.empty()) throw_config_error(join(problems, "\n"));
}

}  // namespace tessera::models
