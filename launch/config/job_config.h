// A training job as plain structs: what a job file says once it is read, completed and checked.
//
// The defaults of all fields stand here and nowhere else; proto/*.proto says what each field means.
// "resolved" marks a value that may be left out of the file and is never empty after load_job.
// Structs live in tessera::config, so that models, data and optimizers may own structs of the same
// name; JobConfig itself is also tessera::JobConfig.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/types/dtype.h"
#include "partitioner/sharding_rules.h"

namespace tessera::config {

enum class ModelFamily : uint8_t { gpt2, llama };
enum class ModelPosition : uint8_t { learned, rotary, alibi, relative };
enum class Tokenizer : uint8_t { bytes };
enum class OptimizerKind : uint8_t { adamw };
enum class ScheduleKind : uint8_t { constant, cosine, rsqrt };
enum class RematPolicy : uint8_t { none, full, dots };
enum class MatmulDType : uint8_t { compute, fp8 };
enum class ResumeMode : uint8_t { automatic, must, never };
enum class ProgressMode : uint8_t { automatic, live, plain };
enum class LogLevelName : uint8_t { debug, info, warning, error };
enum class DeviceBackend : uint8_t { cpu, cuda };
enum class DeviceTransport : uint8_t { automatic, nccl, staged };

// The names that config files use ("gpt2", "cosine", "auto", ...).
std::string_view name_of(ModelFamily value);
std::string_view name_of(ModelPosition value);
std::string_view name_of(Tokenizer value);
std::string_view name_of(OptimizerKind value);
std::string_view name_of(ScheduleKind value);
std::string_view name_of(RematPolicy value);
std::string_view name_of(MatmulDType value);
std::string_view name_of(ResumeMode value);
std::string_view name_of(ProgressMode value);
std::string_view name_of(LogLevelName value);
std::string_view name_of(DeviceBackend value);
std::string_view name_of(DeviceTransport value);

struct ModelConfig {
  ModelFamily family = ModelFamily::gpt2;  // required
  int64_t layers = 0;                      // required
  int64_t embed = 0;                       // required
  int64_t heads = 0;                       // required
  int64_t kv_heads = 0;                    // resolved: heads
  int64_t head_dim = 0;                    // resolved: embed / heads
  int64_t mlp = 0;      // resolved: gpt2 4 x embed; llama 8/3 x embed, up to a multiple of 256
  int64_t vocab = 259;  // the byte vocabulary (ByT5 numbering)
  int64_t vocab_padding = 128;  // the table has this multiple of rows
  int64_t context = 0;          // resolved: train.sequence_length
  double norm_epsilon = 1e-5;
  double rope_theta = 10000;
  bool tied_embeddings = true;  // resolved: gpt2 true, llama false
  double init_std = 0.02;
  bool scale_residual_init = true;  // projections into the residual: init_std / sqrt(2 x layers)
  ModelPosition position = ModelPosition::learned;  // resolved: gpt2 learned, llama rotary
  int64_t attention_window = 0;                     // tokens; 0: all
  int64_t full_attention_interval = 0;              // layers; 0: never
  int64_t relative_buckets = 32;
  int64_t relative_max_distance = 128;
  double dropout = 0;               // rate; in training only

  // Rows of the embedding table: vocab rounded up to a multiple of vocab_padding.
  int64_t padded_vocab() const {
    return (vocab + vocab_padding - 1) / vocab_padding * vocab_padding;
  }
  bool operator==(const ModelConfig&) const = default;
};

struct DataConfig {
  std::vector<std::string> paths;       // files or folders; absolute after loading
  std::vector<std::string> eval_paths;  // held-out text; empty: a part of `paths`, by holdout
  double holdout = 0.05;                // share of the text kept for evaluation
  std::string document_separator;       // text between documents; empty: a file is one document
  Tokenizer tokenizer = Tokenizer::bytes;
  bool shuffle = true;
  int64_t seed = 0;
  bool separate_documents = false;  // attention stays within a document

  bool operator==(const DataConfig&) const = default;
};

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::adamw;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  bool decay_vectors = false;         // decay tensors of fewer than two dims too
  std::vector<std::string> no_decay;  // regular expressions on whole tensor names
  DType moment_dtype = DType::f32;    // f32 or bf16; resolved: f64 when computing in f64
  bool stochastic_rounding = true;    // of weights and moments stored in bf16

  bool operator==(const OptimizerConfig&) const = default;
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::cosine;
  double learning_rate = 3e-4;  // the peak
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;      // resolved: train.steps; the step at which cosine ends
  double final_fraction = 0.1;  // of learning_rate, at the end of cosine

  bool operator==(const ScheduleConfig&) const = default;
};

struct TrainConfig {
  int64_t steps = 0;            // required
  int64_t global_batch = 0;     // required; sequences, over all data shards
  int64_t microbatch = 0;       // resolved: global_batch / (shards x accumulate); per data shard
  int64_t accumulate = 1;       // resolved: global_batch / (shards x microbatch)
  int64_t sequence_length = 0;  // required; tokens
  DType compute_dtype = DType::f32;  // f32, bf16 (f32 master weights) or f64
  MatmulDType matmul_dtype = MatmulDType::compute;  // of the blocks' linear layers
  DType reduce_dtype = DType::f32;   // resolved: f32, or f64 when computing in f64
  RematPolicy remat = RematPolicy::none;
  int64_t seed = 0;
  int64_t threads = 0;  // per rank; 0: cores / ranks on the host
  double z_loss = 0;
  double clip_norm = 1;  // 0: no clipping
  int64_t bucket_bytes = 32 << 20;
  double timeout_seconds = 600;
  int64_t replica_check_interval = 100;  // steps; 0: never
  int64_t memory_bytes = 0;  // of a device; 0: gathered weights are never kept
  DType parameter_dtype = DType::f32;  // as stored: f32 or bf16; resolved: f64 when computing in f64

  bool operator==(const TrainConfig&) const = default;
};

struct EvalConfig {
  int64_t interval = 0;  // steps; 0: at the end only
  int64_t batches = 0;   // of global_batch sequences; 0: all held-out text
  bool at_end = true;

  bool operator==(const EvalConfig&) const = default;
};

struct CheckpointConfig {
  int64_t interval = 0;  // steps; 0: at the end only
  int64_t keep = 2;
  ResumeMode resume = ResumeMode::automatic;

  bool operator==(const CheckpointConfig&) const = default;
};

struct MetricsConfig {
  int64_t interval = 1;         // steps between lines of metrics.jsonl and TensorBoard points
  int64_t print_interval = 10;  // steps between plain progress lines
  bool tensorboard = true;
  ProgressMode progress = ProgressMode::automatic;
  LogLevelName log_level = LogLevelName::info;  // of the per-rank log files

  bool operator==(const MetricsConfig&) const = default;
};

struct DeviceConfig {
  DeviceBackend backend = DeviceBackend::cpu;
  DeviceTransport transport = DeviceTransport::automatic;
  bool tf32 = false;
  bool capture = true;
  bool autotune = false;

  bool operator==(const DeviceConfig&) const = default;
};

// Where an effective value comes from.
struct Origin {
  enum class Kind : uint8_t { built_in, derived, file, mesh_flag, set_flag };
  Kind kind = Kind::built_in;
  std::string file;  // Kind::file
  int line = 0;      // from 1; Kind::file
  std::string
      note;  // derived: the rule ("4 x embed"); flags: the argument as given; file: a remark

  // "default", "default: 4 x embed", "quickstart.textproto:12", "--mesh data=2", "--set a=b".
  std::string text() const;
};

struct JobConfig {
  std::string output_dir;  // resolved: runs/<name of the job file>; relative to the working folder
  ModelConfig model;
  DataConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  MetricsConfig metrics;
  DeviceConfig device;
  // Without any sharding in the job: data parallel over all devices. resolved: no size stays -1.
  ShardingConfig sharding = {.axes = {{"data", -1}},
                             .parameter_rules = {},
                             .activation_rules = {{"batch", {"data"}, false}},
                             .optimizer_rules = {},
                             .overrides = {}};

  // Known after loading, not part of the config text.
  std::string job_path;
  int64_t device_count = 1;  // the mesh's product
  int64_t batch_shards = 1;  // global_batch = batch_shards x train.microbatch x train.accumulate
  std::map<std::string, Origin> origins;  // by path ("train.steps", "sharding.mesh[0].size")
  std::vector<std::string> warnings;      // for the caller to log

  // Equal as configs: origins, path and warnings do not count.
  friend bool operator==(const JobConfig& a, const JobConfig& b) {
    return a.output_dir == b.output_dir && a.model == b.model && a.data == b.data &&
           a.optimizer == b.optimizer && a.schedule == b.schedule && a.train == b.train &&
           a.eval == b.eval && a.checkpoint == b.checkpoint && a.metrics == b.metrics &&
           a.device == b.device && a.sharding == b.sharding;
  }
};

}  // namespace tessera::config

namespace tessera {
using config::JobConfig;
}  // namespace tessera
