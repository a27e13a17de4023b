// A GPT as small as a test wants it, in f32, for the tests that run whole training steps.
#pragma once

#include "models/training_step.h"

namespace tessera::testing {

inline models::StepConfig small_gpt(int layers, int64_t embed, int64_t batch, int64_t length) {
  models::StepConfig config;
  models::ModelConfig& model = config.model;
  model.family = models::Family::gpt2;
  model.layers = layers;
  model.embed = embed;
  model.heads = 4;
  model.kv_heads = 4;
  model.head_dim = embed / 4;
  model.mlp = 4 * embed;
  model.vocab = 384;
  model.padded_vocab = 384;
  model.context = length;
  model.tied_embeddings = true;
  config.compute = DType::f32;
  config.batch = batch;
  config.length = length;
  return config;
}

}  // namespace tessera::testing
