#include "launch/config/validate.h"

#include <cmath>
#include <limits>
#include <regex>
#include <set>

#include "core/base/strings.h"
#include "launch/config/origins.h"
#include "proto/job.pb.h"

namespace tessera::config {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Adds problems about one job, each with the place where the value was given. Values that are
// missing, or derived from others, are not blamed a second time.
class Checker {
 public:
  Checker(const JobConfig& job, const std::set<std::string>& missing, Problems& problems)
      : job_(job), missing_(missing), problems_(problems) {}

  template <typename... Parts>
  void fail(const std::string& path, const Parts&... parts) {
    if (!missing_.contains(path)) problems_.add(place_of(job_, path), path, parts...);
  }

  void between(const std::string& path, int64_t value, int64_t least, int64_t most = 1 << 30) {
    if (origin_of(job_.origins, path).kind == Origin::Kind::derived) return;
    if (value < least) fail(path, " is ", value, "; it must be at least ", least);
    if (value > most) fail(path, " is ", value, "; it must be at most ", most);
  }

  // least <= value <= most; NaN and infinities fail.
  void between_real(const std::string& path, double value, double least, double most = kInfinity) {
    if (value >= least && value <= most && std::isfinite(value)) return;
    fail(path, " is ", print_double(value), "; it must be ",
         most < kInfinity ? cat("from ", print_double(least), " to ", print_double(most))
                          : cat("at least ", print_double(least)));
  }

  void positive(const std::string& path, double value) {
    if (value > 0 && std::isfinite(value)) return;
    fail(path, " is ", print_double(value), "; it must be above 0");
  }

  void below_one(const std::string& path, double value) {
    if (value >= 0 && value < 1) return;
    fail(path, " is ", print_double(value), "; it must be at least 0 and below 1");
  }

  void expression(const std::string& path, const std::string& text) {
    try {
      std::regex compiled(text);
    } catch (const std::regex_error& error) {
      fail(path, ": \"", text, "\" is not a regular expression: ", error.what());
    }
  }

 private:
  const JobConfig& job_;
  const std::set<std::string>& missing_;
  Problems& problems_;
};

// What belongs to another choice of model.position is refused rather than ignored; its default is no
// choice, and stands in every effective config.
void check_attention(const ModelConfig& model, Checker& check) {
  const ModelConfig defaults;
  check.between("model.attention_window", model.attention_window, 0);
  check.between("model.full_attention_interval", model.full_attention_interval, 0);
  if (model.full_attention_interval > 0 && model.attention_window == 0) {
    check.fail("model.full_attention_interval", " is ", model.full_attention_interval,
               " without model.attention_window; all layers see all anyway");
  } else if (model.full_attention_interval == 1) {
    check.fail("model.full_attention_interval", " is 1, so that no layer has the window of ",
               model.attention_window, "; leave out one of the two, or choose at least 2");
  }
  if (model.position == ModelPosition::rotary) {
    if (model.head_dim % 2 != 0) {
      check.fail("model.head_dim", " is ", model.head_dim,
                 "; rotary positions turn pairs of elements, so it must be even");
    }
  } else if (model.rope_theta != defaults.rope_theta) {
    check.fail("model.rope_theta", " is set, and model.position is ", name_of(model.position),
               "; only rotary has frequencies");
  }
  if (model.position == ModelPosition::relative) {
    check.between("model.relative_buckets", model.relative_buckets, 2, 1 << 20);
    if (model.relative_buckets >= 2 && model.relative_max_distance <= model.relative_buckets / 2) {
      check.fail("model.relative_max_distance", " is ", model.relative_max_distance,
                 "; it must be above half of model.relative_buckets (", model.relative_buckets,
                 "), whose distances have buckets of their own");
    }
    check.between("model.relative_max_distance", model.relative_max_distance, 1);
    return;
  }
  const auto only_relative = [&](const char* path, int64_t value, int64_t default_value) {
    if (value != default_value)
      check.fail(path, " is set, and model.position is ", name_of(model.position),
                 "; only relative has buckets");
  };
  only_relative("model.relative_buckets", model.relative_buckets, defaults.relative_buckets);
  only_relative("model.relative_max_distance", model.relative_max_distance,
                defaults.relative_max_distance);
}

void check_model(const ModelConfig& model, const TrainConfig& train, bool has_batch,
                 Checker& check) {
  check.between("model.layers", model.layers, 1, 1 << 20);
  check.between("model.embed", model.embed, 1);
  check.between("model.heads", model.heads, 1);
  check.between("model.kv_heads", model.kv_heads, 1);
  check.between("model.mlp", model.mlp, 1);
  check.between("model.vocab_padding", model.vocab_padding, 1);
  check.between("model.vocab", model.vocab, 1);
  check.positive("model.norm_epsilon", model.norm_epsilon);
  check.positive("model.rope_theta", model.rope_theta);
  check.between_real("model.init_std", model.init_std, 0);
  check.below_one("model.dropout", model.dropout);
  if (model.head_dim == 0 && model.heads > 0) {
    check.fail("model.embed", " ", model.embed, " / heads ", model.heads,
               " is not whole; choose a multiple of heads, or set model.head_dim");
  } else {
    check.between("model.head_dim", model.head_dim, 1);
  }
  if (model.family == ModelFamily::gpt2 && model.kv_heads != model.heads) {
    check.fail("model.kv_heads", " is ", model.kv_heads, " and heads is ", model.heads,
               "; the gpt2 family needs them equal, llama has grouped-query attention");
  } else if (model.kv_heads > 0 && model.heads % model.kv_heads != 0) {
    check.fail("model.kv_heads", " ", model.kv_heads, " does not divide heads ", model.heads);
  }
  check_attention(model, check);
  if (model.vocab > 0 && model.vocab < 259) {
    check.fail("model.vocab", " is ", model.vocab, "; the bytes tokenizer has 259 tokens");
  }
  if (has_batch && model.context < train.sequence_length) {
    check.fail("model.context", " ", model.context, " is shorter than train.sequence_length ",
               train.sequence_length);
  } else {
    check.between("model.context", model.context, has_batch ? 1 : 0);
  }
}

void check_optimizer(const JobConfig& job, Checker& check) {
  const OptimizerConfig& optimizer = job.optimizer;
  check.below_one("optimizer.beta1", optimizer.beta1);
  check.below_one("optimizer.beta2", optimizer.beta2);
  check.positive("optimizer.epsilon", optimizer.epsilon);
  check.between_real("optimizer.weight_decay", optimizer.weight_decay, 0);
  for (size_t i = 0; i < optimizer.no_decay.size(); ++i) {
    check.expression(cat("optimizer.no_decay[", i, "]"), optimizer.no_decay[i]);
  }
  const ScheduleConfig& schedule = job.schedule;
  check.between_real("schedule.learning_rate", schedule.learning_rate, 0);
  check.between("schedule.warmup_steps", schedule.warmup_steps, 0, INT64_MAX);
  check.between_real("schedule.final_fraction", schedule.final_fraction, 0, 1);
  if (schedule.kind == ScheduleKind::cosine && schedule.decay_steps < schedule.warmup_steps) {
    check.fail("schedule.decay_steps", " ", schedule.decay_steps,
               " is before the end of the warmup, ", "schedule.warmup_steps ",
               schedule.warmup_steps);
  }
}

void check_train(const TrainConfig& train, Checker& check) {
  check.between("train.steps", train.steps, 1, INT64_MAX);
  check.between("train.global_batch", train.global_batch, 1);
  check.between("train.sequence_length", train.sequence_length, 1);
  check.between("train.microbatch", train.microbatch, 1, 1 << 20);
  check.between("train.accumulate", train.accumulate, 1, 1 << 20);
}

void check_settings(const JobConfig& job, Checker& check) {
  const TrainConfig& train = job.train;
  check.between("train.threads", train.threads, 0, 1 << 16);
  check.between_real("train.z_loss", train.z_loss, 0);
  check.between_real("train.clip_norm", train.clip_norm, 0);
  check.between("train.bucket_bytes", train.bucket_bytes, 1, INT64_MAX);
  check.positive("train.timeout_seconds", train.timeout_seconds);
  check.between("train.replica_check_interval", train.replica_check_interval, 0, INT64_MAX);
  check.between("train.memory_bytes", train.memory_bytes, 0, INT64_MAX);
  const bool is_f64 = train.compute_dtype == DType::f64;
  const auto goes_with_compute = [&](const char* path, DType dtype) {
    if ((dtype == DType::f64) == is_f64) return;
    check.fail(path, " ", dtype, " does not go with compute_dtype ", train.compute_dtype, "; f64 goes with f64 only");
  };
  goes_with_compute("train.reduce_dtype", train.reduce_dtype);
  goes_with_compute("train.parameter_dtype", train.parameter_dtype);
  goes_with_compute("optimizer.moment_dtype", job.optimizer.moment_dtype);
  if (train.matmul_dtype == MatmulDType::fp8 && is_f64) {
    check.fail("train.matmul_dtype", " fp8 does not go with compute_dtype f64: products in 8 bits would be all ",
               "that is left of its precision; set train.compute_dtype=bf16, or f32, or leave matmul_dtype out");
  }
  check.between_real("data.holdout", job.data.holdout, 0, 0.5);
  check.between("eval.interval", job.eval.interval, 0, INT64_MAX);
  check.between("eval.batches", job.eval.batches, 0, INT64_MAX);
  check.between("checkpoint.interval", job.checkpoint.interval, 0, INT64_MAX);
  check.between("checkpoint.keep", job.checkpoint.keep, 1, INT64_MAX);
  check.between("metrics.interval", job.metrics.interval, 1, INT64_MAX);
  check.between("metrics.print_interval", job.metrics.print_interval, 1, INT64_MAX);
  if (job.output_dir.empty()) check.fail("output_dir", " is empty; name a folder");
}

void check_paths(const std::vector<std::string>& paths, const std::string& name, Checker& check) {
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string path = cat(name, "[", i, "]");
    if (paths[i].empty()) check.fail(path, " is empty; name a text file or a folder");
  }
}

}  // namespace

std::set<std::string> missing_fields(const proto::JobConfig& given, LoadPurpose purpose) {
  std::set<std::string> missing;
  const auto need = [&](bool is_given, const char* path) {
    if (!is_given) missing.insert(path);
  };
  need(given.model().has_family(), "model.family");
  need(given.model().has_layers(), "model.layers");
  need(given.model().has_embed(), "model.embed");
  need(given.model().has_heads(), "model.heads");
  if (purpose == LoadPurpose::use) return missing;
  need(given.train().has_steps(), "train.steps");
  need(given.train().has_global_batch(), "train.global_batch");
  need(given.train().has_sequence_length(), "train.sequence_length");
  if (purpose == LoadPurpose::plan) return missing;
  need(given.data().paths_size() > 0, "data.paths");
  return missing;
}

void check_values(const JobConfig& job, const std::set<std::string>& missing, LoadPurpose purpose,
                  Problems& problems) {
  Checker check(job, missing, problems);
  const bool has_batch = purpose != LoadPurpose::use;
  check_model(job.model, job.train, has_batch, check);
  check_optimizer(job, check);
  check_settings(job, check);
  check_paths(job.data.paths, "data.paths", check);
  check_paths(job.data.eval_paths, "data.eval_paths", check);
  if (has_batch) check_train(job.train, check);
}

}  // namespace tessera::config
