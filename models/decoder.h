// Decoder language models from config: tokens in, logits out.
#pragma once

#include "models/dropout.h"
#include "models/model_config.h"
#include "models/parameters.h"

namespace tessera::models {

// tokens s32 [batch, length] -> logits [batch, length, padded_vocab] in the compute dtype.
// Columns from config.vocab on are padding and mean nothing. Blocks have the scopes "block.0", ...
//   gpt2:  learned positions, LayerNorm, GELU, biases (Radford et al. 2019)
//   llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023)
// `dropout` is applied to embeddings and to what attention and MLP add to the residual stream.
// Throws UserError when length exceeds config.context.
Value decoder_logits(ParameterScope& scope, const ModelConfig& config, Value tokens, Dropout dropout = {});

// All parameters of the model, in the order of their declaration.
std::vector<ParameterSpec> parameter_specs(const ModelConfig& config, DType compute,
                                           std::optional<DType> stored = std::nullopt);

// Parameters that count (without vocabulary padding).
int64_t parameter_count(const std::vector<ParameterSpec>& specs);

// Training FLOPs per token: 6 N + 12 C P with N the parameters of matrix products (the embedding
// table once if tied, as the output projection; not as a lookup), C = heads x head_dim, and P the
// keys that a token sees on average, summed over the layers: T / 2 in each, less under a window. No
// recompute counted; the documents of a sequence count as one.
double train_flops_per_token(const ModelConfig& config, int64_t sequence_length);

}  // namespace tessera::models
