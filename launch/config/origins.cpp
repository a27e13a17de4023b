#include "launch/config/origins.h"

#include <google/protobuf/message.h>

#include <vector>

#include "core/base/strings.h"
#include "launch/config/descriptors.h"

namespace tessera::config {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

namespace {

bool is_under(const std::string& path, const std::string& block) {
  return path.starts_with(block) &&
         (path.size() == block.size() || path[block.size()] == '.' || path[block.size()] == '[');
}

void mark(Origins& origins, const Message& message, const std::string& prefix,
          const std::string& path, const Origin& origin) {
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const std::string here = joined_path(
          prefix, field->is_repeated() ? cat(field->name(), "[", i, "]") : field->name());
      if (is_under(here, path)) origins[here] = origin;
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
      mark(origins,
           field->is_repeated() ? reflection->GetRepeatedMessage(message, field, i)
                                : reflection->GetMessage(message, field),
           here, path, origin);
    }
  }
}

}  // namespace

void set_origin(Origins& origins, const Message& root, const std::string& path,
                const Origin& origin) {
  std::erase_if(origins, [&](const auto& entry) { return is_under(entry.first, path); });
  mark(origins, root, "", path, origin);
}

Origin origin_of(const Origins& origins, const std::string& path) {
  const auto found = origins.find(path);
  return found == origins.end() ? Origin{} : found->second;
}

std::string place_of(const JobConfig& job, const std::string& path) {
  const Origin origin = origin_of(job.origins, path);
  const bool given = origin.kind != Origin::Kind::built_in && origin.kind != Origin::Kind::derived;
  return cat(given ? origin.text() : job.job_path, ": ");
}

}  // namespace tessera::config
