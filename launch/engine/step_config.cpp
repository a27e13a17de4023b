#include "launch/engine/step_config.h"

#include <memory>
#include <regex>

#include "core/base/error.h"
#include "launch/data/byte_tokenizer.h"

namespace tessera {

namespace {

models::Position position_of(config::ModelPosition position) {
  switch (position) {
    case config::ModelPosition::learned: return models::Position::learned;
    case config::ModelPosition::rotary: return models::Position::rotary;
    case config::ModelPosition::alibi: return models::Position::alibi;
    case config::ModelPosition::relative: return models::Position::relative;
  }
  return models::Position::by_family;
}

}  // namespace

models::ModelConfig model_config(const JobConfig& job) {
  const config::ModelConfig& from = job.model;
  models::ModelConfig model;
  model.family = from.family == config::ModelFamily::gpt2 ? models::Family::gpt2 : models::Family::llama;
  model.layers = from.layers;
  model.embed = from.embed;
  model.heads = from.heads;
  model.kv_heads = from.kv_heads;
  model.head_dim = from.head_dim;
  model.mlp = from.mlp;
  model.vocab = from.vocab;
  model.padded_vocab = from.padded_vocab();
  model.context = from.context;
  model.norm_epsilon = from.norm_epsilon;
  model.rope_theta = from.rope_theta;
  model.tied_embeddings = from.tied_embeddings;
  model.init_std = from.init_std;
  model.scale_residual_init = from.scale_residual_init;
  model.position = position_of(from.position);
  model.attention_window = from.attention_window;
  model.full_attention_interval = from.full_attention_interval;
  model.relative_buckets = from.relative_buckets;
  model.relative_max_distance = from.relative_max_distance;
  if (job.data.separate_documents) model.document_end = kEndToken;
  model.dropout = from.dropout;
  return model;
}

namespace {

RematPolicy remat_policy(config::RematPolicy policy) {
  switch (policy) {
    case config::RematPolicy::none: return RematPolicy::none;
    case config::RematPolicy::full: return RematPolicy::full;
    case config::RematPolicy::dots: return RematPolicy::dots;
  }
  return RematPolicy::none;
}

std::regex compile_no_decay(const std::string& text) {
  try {
    return std::regex(text);
  } catch (const std::regex_error& error) {
    throw_config_error("optimizer.no_decay: \"", text, "\" is not a regular expression: ", error.what());
  }
}

// The weight-decay mask as a predicate on parameters.
std::function<bool(const models::ParameterSpec&)> decay_mask(const JobConfig& job,
                                                             const models::ModelConfig& model) {
  auto excluded = std::make_shared<std::vector<std::regex>>();
  const auto specs = models::parameter_specs(model, job.train.compute_dtype);
  for (const std::string& text : job.optimizer.no_decay) {
    excluded->push_back(compile_no_decay(text));
    bool matches = false;
    for (const models::ParameterSpec& spec : specs) matches |= std::regex_match(spec.name, excluded->back());
    if (!matches)
      throw_config_error("optimizer.no_decay: \"", text, "\" matches no parameter; names look like \"",
                         specs.front().name, "\" (it must match the whole name)");
  }
  const bool vectors = job.optimizer.decay_vectors;
  return [excluded, vectors](const models::ParameterSpec& spec) {
    if (spec.type.rank() < 2 && !vectors) return false;
    for (const std::regex& pattern : *excluded)
      if (std::regex_match(spec.name, pattern)) return false;
    return true;
  };
}

}  // namespace

models::StepConfig step_config(const JobConfig& job) {
  models::StepConfig step;
  step.model = model_config(job);
  models::validate(step.model);
  step.compute = job.train.compute_dtype;
  step.fp8 = job.train.matmul_dtype == config::MatmulDType::fp8;
  step.parameters = job.train.parameter_dtype;
  step.moments = job.optimizer.moment_dtype;
  step.stochastic_rounding = job.optimizer.stochastic_rounding;
  step.seed = job.train.seed;
  step.remat = remat_policy(job.train.remat);
  step.optimizer = {.beta1 = job.optimizer.beta1, .beta2 = job.optimizer.beta2,
                    .epsilon = job.optimizer.epsilon, .weight_decay = job.optimizer.weight_decay,
                    .decays = decay_mask(job, step.model)};
  step.z_loss = job.train.z_loss;
  step.clip_norm = job.train.clip_norm;
  step.batch = job.train.microbatch * job.batch_shards;
  step.length = job.train.sequence_length;
  return step;
}

}  // namespace tessera
