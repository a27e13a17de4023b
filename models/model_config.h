// What a model is, as plain data. Any family of the catalog is made from this alone.
#pragma once

#include <cstdint>
#include <string>

namespace tessera::models {

enum class Family : uint8_t { gpt2, llama };

struct ModelConfig {
  Family family = Family::gpt2;
  int64_t layers = 0;
  int64_t embed = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;     // heads of keys and values; heads % kv_heads == 0
  int64_t head_dim = 0;
  int64_t mlp = 0;          // width of the feed-forward layer
  int64_t vocab = 0;        // token ids in use
  int64_t padded_vocab = 0; // rows of the embedding table, >= vocab
  int64_t context = 0;      // longest sequence; rows of the position table
  double norm_epsilon = 1e-5;
  double rope_theta = 10000;
  bool tied_embeddings = true;
  double init_std = 0.02;
  bool scale_residual_init = true;  // GPT-2: init_std / sqrt(2 x layers) into the residual stream
};

// Throws ConfigError that lists every problem at once (heads and kv_heads, sizes below 1, odd
// head_dim under rotary, ...).
void validate(const ModelConfig& config);

}  // namespace tessera::models
