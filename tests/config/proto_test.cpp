// The definitions in proto/ and the structs in launch/config say the same.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <regex>

#include "core/base/strings.h"
#include "launch/config/binding.h"
#include "proto/checkpoint.pb.h"
#include "proto/job.pb.h"
#include "proto/tensorboard.pb.h"
#include "tests/config/config_test_util.h"

namespace tessera {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Binding casts numbers to enumerators, so both must count alike.
template <typename Enum>
void expect_same(const EnumDescriptor* type) {
  for (int i = 0; i < type->value_count(); ++i) {
    EXPECT_EQ(type->value(i)->number(), i) << type->full_name();
    EXPECT_EQ(type->value(i)->name(), config::name_of(static_cast<Enum>(i))) << type->full_name();
  }
  EXPECT_EQ(config::name_of(static_cast<Enum>(type->value_count())), "?") << type->full_name();
}

TEST(Proto, EnumsAreThoseOfTheStructs) {
  expect_same<config::ModelFamily>(proto::ModelConfig::Family_descriptor());
  expect_same<config::ModelPosition>(proto::ModelConfig::Position_descriptor());
  expect_same<config::Tokenizer>(proto::DataConfig::Tokenizer_descriptor());
  expect_same<config::OptimizerKind>(proto::OptimizerConfig::Kind_descriptor());
  expect_same<config::ScheduleKind>(proto::ScheduleConfig::Kind_descriptor());
  expect_same<config::RematPolicy>(proto::TrainConfig::Remat_descriptor());
  expect_same<config::ResumeMode>(proto::CheckpointConfig::Resume_descriptor());
  expect_same<config::ProgressMode>(proto::MetricsConfig::Progress_descriptor());
  expect_same<config::LogLevelName>(proto::MetricsConfig::LogLevel_descriptor());
}

void expect_optional(const Descriptor* type) {
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    EXPECT_TRUE(field->is_repeated() || field->has_presence()) << field->full_name();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE)
      expect_optional(field->message_type());
  }
}

TEST(Proto, EveryScalarOfAConfigKnowsWhetherItIsSet) {
  expect_optional(proto::JobConfig::descriptor());
}

const Message* find_type(const Message& message, const std::string& type) {
  if (message.GetDescriptor()->name() == type) return &message;
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const Message* found = find_type(
        field->is_repeated() ? message.GetReflection()->GetRepeatedMessage(message, field, 0)
                             : message.GetReflection()->GetMessage(message, field),
        type);
    if (found) return found;
  }
  return nullptr;
}

// "... ; default 0.95." in a field's comment is the value that the struct starts with.
TEST(Proto, CommentsNameTheDefaultsOfTheStructs) {
  proto::JobConfig defaults;
  config::to_message(JobConfig(), defaults);
  int compared = 0;
  for (const char* file : {"job", "model", "data", "optimizer", "sharding"}) {
    std::ifstream in(cat(TESSERA_SOURCE_DIR, "/proto/", file, ".proto"));
    std::string line, comment, type;
    while (std::getline(in, line)) {
      const std::string_view text = trim(line);
      std::smatch match;
      const std::string code(text);
      if (text.starts_with("//")) {
        comment += cat(" ", trim(text.substr(2)));
        continue;
      }
      if (std::regex_match(code, match, std::regex("message (\\w+) \\{"))) type = match[1];
      std::smatch named;
      if (std::regex_match(code, match, std::regex("(optional|repeated) \\w+ (\\w+) = \\d+;"))) {
        EXPECT_FALSE(comment.empty()) << type << "." << match[2] << " has no comment";
        const Message* message = find_type(defaults, type);
        if (message && std::regex_search(comment, named, std::regex("default ([^ :;,]+)[.:;,]"))) {
          const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(match[2]);
          std::string value;
          google::protobuf::TextFormat::PrintFieldValueToString(*message, field, -1, &value);
          const std::string said = named[1];
          const bool is_number = field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE;
          if (type != "MeshAxis") {
            EXPECT_TRUE(said == value || (is_number && std::stod(said) == std::stod(value)))
                << type << "." << match[2] << ": comment says " << said << ", struct " << value;
            ++compared;
          }
        }
      }
      comment.clear();
    }
  }
  EXPECT_GT(compared, 35);
}

TEST(Proto, EventBytesAreThoseOfTensorBoard) {
  proto::tensorboard::Event event;
  event.set_step(7);
  auto* value = event.mutable_summary()->add_value();
  value->set_tag("loss");
  value->set_simple_value(1.0f);
  // Field 2 varint 7; field 5 of 13 bytes: field 1 of 11: field 1 "loss", field 2 float 1.
  EXPECT_EQ(event.SerializeAsString(),
            std::string("\x10\x07\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x80\x3f", 17));
}

}  // namespace
}  // namespace tessera
