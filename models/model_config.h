// What a model is, as plain data. Any family of the catalog is made from this alone.
#pragma once

#include <cstdint>
#include <string>

namespace tessera::models {

enum class Family : uint8_t { gpt2, llama };

// How attention knows where tokens stand; by_family: learned for gpt2, rotary for llama.
enum class Position : uint8_t { by_family, learned, rotary, alibi, relative };

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
  double dropout = 0;               // rate, while it trains
  Position position = Position::by_family;
  int64_t attention_window = 0;         // keys that a token sees, itself included; 0: all before it
  int64_t full_attention_interval = 0;  // every so manyth layer has no window; 0: none
  int64_t relative_buckets = 32;        // position relative: see models/positions.h
  int64_t relative_max_distance = 128;
  int64_t document_end = -1;  // a token id: tokens see their own document alone; -1: all

  Position resolved_position() const {
    if (position != Position::by_family) return position;
    return family == Family::gpt2 ? Position::learned : Position::rotary;
  }
  // Of layer 0, 1, ...; 0: it sees all.
  int64_t window_of(int64_t layer) const {
    const bool full = full_attention_interval > 0 && (layer + 1) % full_attention_interval == 0;
    return full ? 0 : attention_window;
  }
};

// Throws ConfigError that lists every problem at once (heads and kv_heads, sizes below 1, odd
// head_dim under rotary, ...).
void validate(const ModelConfig& config);

}  // namespace tessera::models
