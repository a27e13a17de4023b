#include "launch/config/binding.h"

#include <google/protobuf/message.h>

#include <set>
#include <type_traits>

#include "core/base/error.h"
#include "proto/job.pb.h"

namespace tessera::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

enum class Direction { read, write };

// Moves fields between one message and one struct, by name.
class Binder {
 public:
  Binder(Message& message, Direction direction)
      : message_(message), reflection_(*message.GetReflection()), direction_(direction) {}

  ~Binder() noexcept(false) {
    TESSERA_CHECK(bound_ == message_.GetDescriptor()->field_count(),
                  message_.GetDescriptor()->full_name(), " has ",
                  message_.GetDescriptor()->field_count(), " fields, of which ", bound_,
                  " are bound to the struct");
  }

  bool reading() const { return direction_ == Direction::read; }

  // A field that the struct has no place for.
  void skip(const char* name) { find(name); }

  template <typename T>
  void operator()(const char* name, T& value) {
    const FieldDescriptor* field = find(name);
    if (!reading()) {
      set(field, value);
    } else if (field->is_repeated() || reflection_.HasField(message_, field)) {
      get(field, value);
    }
  }

  // A field that is written only where it differs from its default: a rule has more fields than most
  // rules use, and their defaults everywhere would drown the text.
  template <typename T>
  void unless_default(const char* name, T& value) {
    if (reading() || value != T())
      (*this)(name, value);
    else
      skip(name);
  }

  // A block. Writing makes it present; reading an absent one leaves the struct alone.
  template <typename T>
  void block(const char* name, T& value, void (*bind)(Binder&&, T&)) {
    const FieldDescriptor* field = find(name);
    if (reading() && !reflection_.HasField(message_, field)) return;
    bind(Binder(*reflection_.MutableMessage(&message_, field), direction_), value);
  }

  // A list of blocks.
  template <typename T>
  void list(const char* name, std::vector<T>& values, void (*bind)(Binder&&, T&)) {
    const FieldDescriptor* field = find(name);
    if (reading()) values.assign(reflection_.FieldSize(message_, field), T());
    for (size_t i = 0; i < values.size(); ++i) {
      Message* element =
          reading() ? reflection_.MutableRepeatedMessage(&message_, field, static_cast<int>(i))
                    : reflection_.AddMessage(&message_, field);
      bind(Binder(*element, direction_), values[i]);
    }
  }

 private:
  const FieldDescriptor* find(const char* name) {
    const FieldDescriptor* field = message_.GetDescriptor()->FindFieldByName(name);
    TESSERA_CHECK(field, message_.GetDescriptor()->full_name(), " has no field ", name);
    ++bound_;
    return field;
  }

  void get(const FieldDescriptor* field, int64_t& value) {
    value = reflection_.GetInt64(message_, field);
  }
  void get(const FieldDescriptor* field, double& value) {
    value = reflection_.GetDouble(message_, field);
  }
  void get(const FieldDescriptor* field, bool& value) {
    value = reflection_.GetBool(message_, field);
  }
  void get(const FieldDescriptor* field, std::string& value) {
    value = reflection_.GetString(message_, field);
  }
  void get(const FieldDescriptor* field, std::vector<std::string>& values) {
    values.clear();
    for (int i = 0; i < reflection_.FieldSize(message_, field); ++i) {
      values.push_back(reflection_.GetRepeatedString(message_, field, i));
    }
  }
  // Enums without a name for their number were reported by parse_text and keep the default.
  void get(const FieldDescriptor* field, DType& value) {
    const int number = reflection_.GetEnumValue(message_, field);
    const auto* named = field->enum_type()->FindValueByNumber(number);
    if (named) value = parse_dtype(named->name()).value();
  }
  template <typename Enum>
  requires std::is_enum_v<Enum>
  void get(const FieldDescriptor* field, Enum& value) {
    const int number = reflection_.GetEnumValue(message_, field);
    if (field->enum_type()->FindValueByNumber(number)) value = static_cast<Enum>(number);
  }

  void set(const FieldDescriptor* field, int64_t value) {
    reflection_.SetInt64(&message_, field, value);
  }
  void set(const FieldDescriptor* field, double value) {
    reflection_.SetDouble(&message_, field, value);
  }
  void set(const FieldDescriptor* field, bool value) {
    reflection_.SetBool(&message_, field, value);
  }
  void set(const FieldDescriptor* field, const std::string& value) {
    reflection_.SetString(&message_, field, value);
  }
  void set(const FieldDescriptor* field, const std::vector<std::string>& values) {
    for (const std::string& value : values) reflection_.AddString(&message_, field, value);
  }
  template <typename Enum>
  requires std::is_enum_v<Enum>
  void set(const FieldDescriptor* field, Enum value) {
    const auto* named = field->enum_type()->FindValueByName(std::string(name_of(value)));
    TESSERA_CHECK(named, field->full_name(), " has no value ", name_of(value));
    reflection_.SetEnum(&message_, field, named);
  }

  Message& message_;
  const Reflection& reflection_;
  Direction direction_;
  int bound_ = 0;
};

void bind_model(Binder&& bind, ModelConfig& model) {
  bind("family", model.family);
  bind("layers", model.layers);
  bind("embed", model.embed);
  bind("heads", model.heads);
  bind("kv_heads", model.kv_heads);
  bind("head_dim", model.head_dim);
  bind("mlp", model.mlp);
  bind("vocab", model.vocab);
  bind("vocab_padding", model.vocab_padding);
  bind("context", model.context);
  bind("norm_epsilon", model.norm_epsilon);
  bind("rope_theta", model.rope_theta);
  bind("tied_embeddings", model.tied_embeddings);
  bind("init_std", model.init_std);
  bind("scale_residual_init", model.scale_residual_init);
  bind("position", model.position);
  bind("attention_window", model.attention_window);
  bind("full_attention_interval", model.full_attention_interval);
  bind("relative_buckets", model.relative_buckets);
  bind("relative_max_distance", model.relative_max_distance);
  bind("dropout", model.dropout);
}

void bind_data(Binder&& bind, DataConfig& data) {
  bind("paths", data.paths);
  bind("eval_paths", data.eval_paths);
  bind("holdout", data.holdout);
  bind("document_separator", data.document_separator);
  bind("tokenizer", data.tokenizer);
  bind("shuffle", data.shuffle);
  bind("seed", data.seed);
  bind("separate_documents", data.separate_documents);
}

void bind_optimizer(Binder&& bind, OptimizerConfig& optimizer) {
  bind("kind", optimizer.kind);
  bind("beta1", optimizer.beta1);
  bind("beta2", optimizer.beta2);
  bind("epsilon", optimizer.epsilon);
  bind("weight_decay", optimizer.weight_decay);
  bind("decay_vectors", optimizer.decay_vectors);
  bind("no_decay", optimizer.no_decay);
  bind("moment_dtype", optimizer.moment_dtype);
  bind("stochastic_rounding", optimizer.stochastic_rounding);
}

void bind_schedule(Binder&& bind, ScheduleConfig& schedule) {
  bind("kind", schedule.kind);
  bind("learning_rate", schedule.learning_rate);
  bind("warmup_steps", schedule.warmup_steps);
  bind("decay_steps", schedule.decay_steps);
  bind("final_fraction", schedule.final_fraction);
}

void bind_train(Binder&& bind, TrainConfig& train) {
  bind("steps", train.steps);
  bind("global_batch", train.global_batch);
  bind("microbatch", train.microbatch);
  bind("accumulate", train.accumulate);
  bind("sequence_length", train.sequence_length);
  bind("compute_dtype", train.compute_dtype);
  bind("matmul_dtype", train.matmul_dtype);
  bind("reduce_dtype", train.reduce_dtype);
  bind("remat", train.remat);
  bind("seed", train.seed);
  bind("threads", train.threads);
  bind("z_loss", train.z_loss);
  bind("clip_norm", train.clip_norm);
  bind("bucket_bytes", train.bucket_bytes);
  bind("timeout_seconds", train.timeout_seconds);
  bind("replica_check_interval", train.replica_check_interval);
  bind("memory_bytes", train.memory_bytes);
  bind("parameter_dtype", train.parameter_dtype);
}

void bind_eval(Binder&& bind, EvalConfig& eval) {
  bind("interval", eval.interval);
  bind("batches", eval.batches);
  bind("at_end", eval.at_end);
}

void bind_checkpoint(Binder&& bind, CheckpointConfig& checkpoint) {
  bind("interval", checkpoint.interval);
  bind("keep", checkpoint.keep);
  bind("resume", checkpoint.resume);
}

void bind_metrics(Binder&& bind, MetricsConfig& metrics) {
  bind("interval", metrics.interval);
  bind("print_interval", metrics.print_interval);
  bind("tensorboard", metrics.tensorboard);
  bind("progress", metrics.progress);
  bind("log_level", metrics.log_level);
}

void bind_device(Binder&& bind, DeviceConfig& device) {
  bind("backend", device.backend);
  bind("transport", device.transport);
  bind("tf32", device.tf32);
  bind("capture", device.capture);
  bind("autotune", device.autotune);
}

void bind_axis(Binder&& bind, MeshAxisConfig& axis) {
  bind("name", axis.name);
  bind("size", axis.size);
}

void bind_rule(Binder&& bind, AxisRule& rule) {
  bind("logical", rule.logical);
  bind("axes", rule.mesh_axes);
  bind.unless_default("if_divides", rule.if_divides);
  bind.unless_default("priority", rule.priority);
}

void bind_dim(Binder&& bind, std::vector<std::string>& axes) { bind("axes", axes); }

void bind_override(Binder&& bind, ShardingOverride& entry) {
  bind("tensor", entry.tensor_regex);
  bind.list("dims", entry.dims, bind_dim);
  bind.unless_default("priority", entry.priority);
}

void bind_group(Binder&& bind, TensorGroup& group) {
  bind("tensors", group.tensor_regexes);
  bind("strict", group.is_strict);
}

void bind_sharding(Binder&& bind, ShardingConfig& sharding) {
  bind.list("mesh", sharding.axes, bind_axis);
  bind.list("parameter_rules", sharding.parameter_rules, bind_rule);
  bind.list("activation_rules", sharding.activation_rules, bind_rule);
  bind.list("optimizer_rules", sharding.optimizer_rules, bind_rule);
  bind.list("overrides", sharding.overrides, bind_override);
  bind.list("groups", sharding.groups, bind_group);
  bind.unless_default("max_implicit_reshard_bytes", sharding.max_implicit_reshard_bytes);
  bind.unless_default("collective_matmul", sharding.collective_matmul);
}

void bind_job(Binder&& bind, JobConfig& job) {
  bind("output_dir", job.output_dir);
  bind.block("model", job.model, bind_model);
  bind.block("data", job.data, bind_data);
  bind.block("optimizer", job.optimizer, bind_optimizer);
  bind.block("schedule", job.schedule, bind_schedule);
  bind.block("train", job.train, bind_train);
  bind.block("eval", job.eval, bind_eval);
  bind.block("checkpoint", job.checkpoint, bind_checkpoint);
  bind.block("metrics", job.metrics, bind_metrics);
  bind.block("sharding", job.sharding, bind_sharding);
  bind.block("device", job.device, bind_device);
  bind.skip("sharding_file");
}

}  // namespace

void from_message(const proto::JobConfig& message, JobConfig& job) {
  proto::JobConfig copy = message;  // the binder takes one message for both directions
  bind_job(Binder(copy, Direction::read), job);
}

void to_message(const JobConfig& job, proto::JobConfig& message) {
  message.Clear();
  JobConfig copy = job;
  bind_job(Binder(message, Direction::write), copy);
}

}  // namespace tessera::config
