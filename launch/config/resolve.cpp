#include "launch/config/resolve.h"

#include <algorithm>
#include <filesystem>

#include "core/base/strings.h"
#include "proto/job.pb.h"

namespace tessera::config {

namespace fs = std::filesystem;

std::string absolute_path(const std::string& path, const std::string& from) {
  const fs::path base = from.empty() ? fs::path() : fs::path(from).parent_path();
  std::string text = fs::absolute(base / path).lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

namespace {

void derive(JobConfig& job, const std::string& path, const std::string& rule) {
  job.origins[path] = {Origin::Kind::derived, "", 0, rule};
}

void resolve_model(const proto::ModelConfig& given, JobConfig& job) {
  ModelConfig& model = job.model;
  const bool llama = model.family == ModelFamily::llama;
  if (!given.has_kv_heads()) {
    model.kv_heads = model.heads;
    derive(job, "model.kv_heads", "heads");
  }
  if (!given.has_head_dim()) {
    const bool is_whole = model.heads > 0 && model.embed % model.heads == 0;
    if (is_whole) model.head_dim = model.embed / model.heads;
    derive(job, "model.head_dim", "embed / heads");
  }
  if (!given.has_mlp()) {
    model.mlp = llama ? (model.embed * 8 / 3 + 255) / 256 * 256 : 4 * model.embed;
    derive(job, "model.mlp", llama ? "8/3 x embed, up to a multiple of 256" : "4 x embed");
  }
  if (!given.has_context()) {
    model.context = job.train.sequence_length;
    derive(job, "model.context", "train.sequence_length");
  }
  if (!given.has_tied_embeddings()) {
    model.tied_embeddings = !llama;
    derive(job, "model.tied_embeddings", cat(name_of(model.family), " style"));
  }
  if (!given.has_position()) {
    model.position = llama ? ModelPosition::rotary : ModelPosition::learned;
    derive(job, "model.position", cat(name_of(model.family), " style"));
  }
}

}  // namespace

void resolve_derived(const proto::JobConfig& given, JobConfig& job) {
  resolve_model(given.model(), job);
  if (!given.schedule().has_decay_steps()) {
    job.schedule.decay_steps = std::max(job.train.steps, job.schedule.warmup_steps);
    derive(job, "schedule.decay_steps", "train.steps");
  }
  if (!given.train().has_reduce_dtype() && job.train.compute_dtype == DType::f64) {
    job.train.reduce_dtype = DType::f64;
    derive(job, "train.reduce_dtype", "f64, as compute_dtype");
  }
  if (!given.train().has_parameter_dtype() && job.train.compute_dtype == DType::f64) {
    job.train.parameter_dtype = DType::f64;
    derive(job, "train.parameter_dtype", "f64, as compute_dtype");
  }
  if (!given.optimizer().has_moment_dtype() && job.train.compute_dtype == DType::f64) {
    job.optimizer.moment_dtype = DType::f64;
    derive(job, "optimizer.moment_dtype", "f64, as compute_dtype");
  }
  if (!given.has_output_dir()) {
    job.output_dir = cat("runs/", fs::path(job.job_path).stem().string());
    derive(job, "output_dir", "runs/ and the job file's name");
  }
}

void resolve_paths(JobConfig& job) {
  const auto resolve = [&](std::vector<std::string>& paths, const std::string& name) {
    for (size_t i = 0; i < paths.size(); ++i) {
      const Origin origin = origin_of(job.origins, cat(name, "[", i, "]"));
      if (!paths[i].empty()) paths[i] = absolute_path(paths[i], origin.file);
    }
  };
  resolve(job.data.paths, "data.paths");
  resolve(job.data.eval_paths, "data.eval_paths");
}

}  // namespace tessera::config
