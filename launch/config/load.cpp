#include "launch/config/load.h"

#include <filesystem>
#include <set>
#include <utility>

#include "launch/config/binding.h"
#include "launch/config/mesh.h"
#include "launch/config/problems.h"
#include "launch/config/resolve.h"
#include "launch/config/set_flag.h"
#include "launch/config/text_source.h"
#include "launch/config/validate.h"
#include "proto/job.pb.h"

namespace tessera {
namespace config {
namespace {

// The texts of a config, merged by precedence.
class Merger {
 public:
  explicit Merger(const LoadOptions& options) : options_(options) {}

  void read_job(const std::string& text, const std::string& name) {
    parse_text(text, name, "", message, origins, problems);
    if (message.has_sharding() && message.has_sharding_file()) {
      problems.add(origins["sharding_file"].text(), ": sharding_file and sharding (",
                   origins["sharding"].text(), ") are both given; keep one");
    }
  }

  // The file that --set, --sharding or the job names replaces the job's own sharding.
  void read_sharding() {
    if (!options_.sharding_file.empty()) {
      message.set_sharding_file(options_.sharding_file);
      origins["sharding_file"] = {};
    }
    for (const std::string& argument : options_.sets) {
      if (split_set(argument).path == "sharding_file") apply(argument);
    }
    if (message.sharding_file().empty()) {
      if (!message.has_sharding()) use_default_sharding();
      return;
    }
    std::filesystem::path path = message.sharding_file();
    const Origin origin = origins["sharding_file"];
    const bool in_file = origin.kind == Origin::Kind::file;
    if (in_file)
      path = (std::filesystem::path(origin.file).parent_path() / path).lexically_normal();
    std::erase_if(origins, [](const auto& entry) { return entry.first.starts_with("sharding."); });
    try {
      parse_text(read_config_file(path.string(), "sharding file"), path.string(), "sharding",
                 *message.mutable_sharding(), origins, problems);
    } catch (const ConfigError& error) {
      problems.add(in_file ? cat(origin.text(), ": ") : "", error.what());
      use_default_sharding();
    }
  }

  void apply_flags() {
    if (!options_.mesh.empty()) apply_mesh_flag(options_.mesh, message, origins, problems);
    for (const std::string& argument : options_.sets) {
      if (split_set(argument).path != "sharding_file") apply(argument);
    }
  }

  proto::JobConfig message;
  Origins origins;
  Problems problems;

 private:
  void apply(const std::string& argument) { apply_set(argument, message, origins, problems); }

  void use_default_sharding() {
    proto::JobConfig defaults;
    to_message(JobConfig(), defaults);
    *message.mutable_sharding() = defaults.sharding();
  }

  const LoadOptions& options_;
};

// What a missing field would say, in the order of a job file.
constexpr std::pair<const char*, const char*> kRequired[] = {
    {"model.family", "gpt2 or llama"},
    {"model.layers", "the number of decoder blocks"},
    {"model.embed", "the width of the model"},
    {"model.heads", "the number of attention heads"},
    {"data.paths", "text files or folders to train on"},
    {"train.steps", "the number of optimizer steps"},
    {"train.global_batch", "sequences per step, over all devices"},
    {"train.sequence_length", "tokens per sequence"},
};

void complete_and_check(const Merger& merged, const LoadOptions& options, JobConfig& job,
                        Problems& problems) {
  const proto::JobConfig& given = merged.message;
  const std::set<std::string> missing = missing_fields(given, options.purpose);
  // A field that could not be read is absent too; it has been reported already.
  const bool read_well = problems.empty();
  if (read_well) {
    for (const auto& [path, what] : kRequired) {
      if (!missing.contains(path)) continue;
      problems.add(job.job_path, ": ", path, " is missing: ", what,
                   "; set it in the job, or by --set ", path, "=...");
    }
  }
  resolve_derived(given, job);
  const bool has_mesh =
      !job.sharding.axes.empty() && resolve_mesh(options.device_count, job, problems);
  check_sharding(job, read_well, problems);
  TrainConfig& train = job.train;
  const bool has_microbatch = given.train().has_microbatch();
  const auto possible = [](int64_t count) { return count >= 1 && count <= 1 << 20; };
  const bool has_batch = has_mesh && train.global_batch > 0 && possible(train.accumulate) &&
                         (!has_microbatch || possible(train.microbatch));
  if (has_batch && options.purpose == LoadPurpose::use) {
    job.batch_shards = count_batch_shards(job);
  } else if (has_batch) {
    resolve_batch(has_microbatch, given.train().has_accumulate(), job, problems);
  }
  if (!has_microbatch &&
      train.microbatch == 0) {  // an equation without a solution is reported above
    job.origins["train.microbatch"] = {Origin::Kind::derived, "", 0, "unknown"};
  }
  check_values(job, missing, options.purpose, problems);
  resolve_paths(job);
}

JobConfig load(const std::string& text, const std::string& name, const LoadOptions& options) {
  Merger merger(options);
  merger.read_job(text, name);
  merger.read_sharding();
  merger.apply_flags();
  JobConfig job;
  job.job_path = name;
  from_message(merger.message, job);
  job.origins = merger.origins;
  Problems problems = merger.problems;
  complete_and_check(merger, options, job, problems);
  problems.throw_if_any(name);
  return job;
}

}  // namespace
}  // namespace config

JobConfig load_job(const std::string& job_path, const LoadOptions& options) {
  return config::load(config::read_config_file(job_path, "job file"), job_path, options);
}

JobConfig load_job_text(const std::string& text, const std::string& name,
                        const LoadOptions& options) {
  return config::load(text, name, options);
}

}  // namespace tessera
