#include <google/protobuf/text_format.h>

#include <vector>

#include "launch/config/binding.h"
#include "launch/config/descriptors.h"
#include "launch/config/load.h"
#include "launch/config/mesh.h"
#include "launch/config/origins.h"
#include "proto/job.pb.h"

namespace tessera {
namespace config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kCommentColumn = 44;

// Writes a message as textproto, one value a line, each followed by where it comes from.
class OriginPrinter {
 public:
  explicit OriginPrinter(const Origins& origins) : origins_(origins) {}

  void block(const Message& message, const std::string& path, int indent) {
    const auto* reflection = message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
      for (int i = 0; i < count; ++i) {
        const int index = field->is_repeated() ? i : -1;
        const std::string here =
            joined_path(path, index < 0 ? field->name() : cat(field->name(), "[", i, "]"));
        if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
          value(message, field, index, here, indent);
          continue;
        }
        out_ += cat(std::string(indent, ' '), field->name(), " {\n");
        block(index < 0 ? reflection->GetMessage(message, field)
                        : reflection->GetRepeatedMessage(message, field, index),
              here, indent + 2);
        out_ += cat(std::string(indent, ' '), "}\n");
      }
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void value(const Message& message, const FieldDescriptor* field, int index,
             const std::string& path, int indent) {
    std::string text;
    google::protobuf::TextFormat::Printer printer;
    printer.SetUseUtf8StringEscaping(true);
    printer.PrintFieldValueToString(message, field, index, &text);
    std::string line = cat(std::string(indent, ' '), field->name(), ": ", text);
    if (line.size() < kCommentColumn) line.resize(kCommentColumn, ' ');
    out_ += cat(line, "  # from ", origin_of(origins_, path).text(), "\n");
  }

  const Origins& origins_;
  std::string out_;
};

}  // namespace
}  // namespace config

std::string print_effective(const JobConfig& job) {
  proto::JobConfig message;
  config::to_message(job, message);
  config::OriginPrinter printer(job.origins);
  printer.block(message, "", 0);
  return cat("# Effective config of ", job.job_path, " on ", job.device_count,
             job.device_count == 1 ? " device" : " devices", " (mesh ",
             config::mesh_text(job.sharding.axes), "): global batch ", job.train.global_batch,
             " = ", job.batch_shards, " data shards x microbatch ", job.train.microbatch,
             " x accumulate ", job.train.accumulate, "\n", printer.take());
}

std::string effective_text(const JobConfig& job) {
  proto::JobConfig message;
  config::to_message(job, message);
  // Left to be derived anew, so that the text also loads on another mesh.
  for (const char* name : {"microbatch", "accumulate"}) {
    const auto kind = config::origin_of(job.origins, cat("train.", name)).kind;
    if (kind == config::Origin::Kind::derived || kind == config::Origin::Kind::built_in) {
      const auto* field = message.train().GetDescriptor()->FindFieldByName(name);
      message.train().GetReflection()->ClearField(message.mutable_train(), field);
    }
  }
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  printer.PrintToString(message, &text);
  return text;
}

}  // namespace tessera
