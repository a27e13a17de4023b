#include <google/protobuf/text_format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/strings.h"
#include "launch/config/binding.h"
#include "launch/config/descriptors.h"
#include "launch/config/load.h"
#include "proto/job.pb.h"

namespace tessera {
namespace config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// What a change of a field, or of any field of a block, means for a resume. The first prefix that
// fits decides; everything else is free. Refused is what the saved weights, or the saved position
// in the data, would not survive.
constexpr std::pair<std::string_view, ChangeClass> kClasses[] = {
    {"model.dropout", ChangeClass::warning},
    {"model", ChangeClass::refused},
    {"data.tokenizer", ChangeClass::refused},
    {"data.seed", ChangeClass::refused},
    {"data.shuffle", ChangeClass::refused},
    {"data.holdout", ChangeClass::refused},
    {"data.document_separator", ChangeClass::refused},
    {"data", ChangeClass::warning},
    {"optimizer.moment_dtype", ChangeClass::refused},
    {"optimizer", ChangeClass::warning},
    {"schedule", ChangeClass::warning},
    {"train.sequence_length", ChangeClass::refused},
    {"train.global_batch", ChangeClass::warning},
    {"train.parameter_dtype", ChangeClass::refused},
    {"train.compute_dtype", ChangeClass::warning},
    {"train.matmul_dtype", ChangeClass::warning},
    {"train.reduce_dtype", ChangeClass::warning},
    {"train.seed", ChangeClass::warning},
    {"train.z_loss", ChangeClass::warning},
    {"train.clip_norm", ChangeClass::warning},
    {"device.backend", ChangeClass::warning},
    {"device.tf32", ChangeClass::warning},
};

ChangeClass class_of(const std::string& path) {
  for (const auto& [prefix, kind] : kClasses) {
    if (path == prefix || (path.starts_with(prefix) && path[prefix.size()] == '.')) return kind;
  }
  return ChangeClass::free;
}

std::string text_of(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.SetUseUtf8StringEscaping(true);
  const bool is_block = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  const auto one = [&](int index) {
    std::string text;
    printer.PrintFieldValueToString(message, field, index, &text);
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return is_block ? cat("{", text, "}") : text;
  };
  if (!field->is_repeated()) return reflection->HasField(message, field) ? one(-1) : "";
  std::vector<std::string> elements;
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) elements.push_back(one(i));
  return cat("[", join(elements), "]");
}

void compare(const Message& before, const Message& after, const std::string& block,
             std::vector<ConfigChange>& changes) {
  const auto& type = *before.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const std::string path = joined_path(block, field->name());
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated()) {
      compare(before.GetReflection()->GetMessage(before, field),
              after.GetReflection()->GetMessage(after, field), path, changes);
      continue;
    }
    std::string old_value = text_of(before, field);
    std::string new_value = text_of(after, field);
    if (old_value == new_value) continue;
    changes.push_back({path, std::move(old_value), std::move(new_value), class_of(path)});
  }
}

}  // namespace
}  // namespace config

std::string_view name_of(ChangeClass value) {
  switch (value) {
    case ChangeClass::free:
      return "free";
    case ChangeClass::warning:
      return "warning";
    case ChangeClass::refused:
      return "refused";
  }
  return "?";
}

std::vector<ConfigChange> diff_configs(const std::string& old_text, const JobConfig& job) {
  LoadOptions options;
  options.purpose = LoadPurpose::plan;
  const JobConfig old_job = load_job_text(old_text, "config of the checkpoint", options);
  proto::JobConfig before, after;
  config::to_message(old_job, before);
  config::to_message(job, after);
  // Only the cosine has an end; for other schedules it merely follows train.steps.
  if (job.schedule.kind == old_job.schedule.kind &&
      job.schedule.kind != config::ScheduleKind::cosine) {
    before.mutable_schedule()->clear_decay_steps();
    after.mutable_schedule()->clear_decay_steps();
  }
  std::vector<ConfigChange> changes;
  config::compare(before, after, "", changes);
  return changes;
}

std::string describe_changes(const std::vector<ConfigChange>& changes) {
  std::vector<std::string> lines;
  for (const ChangeClass kind : {ChangeClass::refused, ChangeClass::warning, ChangeClass::free}) {
    for (const ConfigChange& change : changes) {
      if (change.kind != kind) continue;
      lines.push_back(cat(change.path, ": ", change.old_value, " -> ", change.new_value,
                          kind == ChangeClass::free ? "" : cat(" (", name_of(kind), ")")));
    }
  }
  return join(lines, "\n");
}

}  // namespace tessera
