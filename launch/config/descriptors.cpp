#include "launch/config/descriptors.h"

#include <google/protobuf/descriptor.h>

#include "core/base/strings.h"

namespace tessera::config {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

const Descriptor* descriptor_at(const Descriptor* root, std::string_view path) {
  if (path.empty()) return root;
  for (const std::string& part : split(path, '.')) {
    const FieldDescriptor* field = root->FindFieldByName(part.substr(0, part.find('[')));
    if (!field || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return nullptr;
    root = field->message_type();
  }
  return root;
}

std::vector<std::string> field_names(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

std::vector<std::string> value_names(const FieldDescriptor& field) {
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    names.push_back(field.enum_type()->value(i)->name());
  }
  return names;
}

std::string wanted(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return cat("one of ", join(value_names(field)));
    case FieldDescriptor::CPPTYPE_STRING:
      return "a text in quotes";
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return cat("a block { ... } of ", join(field_names(*field.message_type())));
    default:
      return "a whole number";
  }
}

std::string joined_path(std::string_view block, std::string_view name) {
  return block.empty() ? std::string(name) : cat(block, ".", name);
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_name(word, candidates);
  return nearest.empty() ? "" : cat("; did you mean \"", nearest, "\"?");
}

namespace {

// The path of a field called `name` in some block of the config, or "".
std::string place_of(const Descriptor& type, std::string_view block, std::string_view name) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string path = joined_path(block, field.name());
    if (field.name() == name) return path;
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const std::string found = place_of(*field.message_type(), path, name);
    if (!found.empty()) return found;
  }
  return "";
}

}  // namespace

std::string unknown_field_message(const Descriptor* root, std::string_view block,
                                  std::string_view name) {
  const std::string what =
      cat("unknown field \"", name, "\"", block.empty() ? "" : cat(" in ", block));
  const Descriptor* type = descriptor_at(root, block);
  if (!type) return what;
  const std::vector<std::string> names = field_names(*type);
  const std::string nearest = did_you_mean(name, names);
  if (!nearest.empty()) return what + nearest;
  const std::string elsewhere = place_of(*root, "", name);
  if (!elsewhere.empty()) return cat(what, "; there is ", elsewhere);
  return cat(what, "; the fields there are ", join(names));
}

std::string unknown_value_message(const FieldDescriptor& field, std::string_view path,
                                  std::string_view value) {
  const std::vector<std::string> names = value_names(field);
  const std::string nearest = did_you_mean(value, names);
  return cat(path, " has no value \"", value, "\"", nearest, nearest.empty() ? "; it takes " : " (",
             nearest.empty() ? "one of " : "", join(names), nearest.empty() ? "" : ")");
}

}  // namespace tessera::config
