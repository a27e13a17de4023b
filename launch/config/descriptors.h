// Questions about message types: what a field is called, what it takes, what was probably meant.
// Internal to launch/config; protobuf types are only forward-declared.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
}  // namespace google::protobuf

namespace tessera::config {

// The message type of the block at `path` ("sharding.mesh"; "" is `root` itself); null if there is
// no such block. Indices ("mesh[1]") are ignored.
const google::protobuf::Descriptor* descriptor_at(const google::protobuf::Descriptor* root,
                                                  std::string_view path);

std::vector<std::string> field_names(const google::protobuf::Descriptor& type);
std::vector<std::string> value_names(const google::protobuf::FieldDescriptor& enum_field);

// What a field takes, in words: "a whole number", "one of gpt2, llama", "a block { ... }".
std::string wanted(const google::protobuf::FieldDescriptor& field);

// "train.steps"; just "steps" where `block` is empty.
std::string joined_path(std::string_view block, std::string_view name);

// `unknown field "step" in train; did you mean "steps"?`, with the nearest name in that block, else
// the place where the name does exist, else the names that the block has.
std::string unknown_field_message(const google::protobuf::Descriptor* root, std::string_view block,
                                  std::string_view name);

// `model.family has no value "lama"; did you mean "llama"? (gpt2, llama)`.
std::string unknown_value_message(const google::protobuf::FieldDescriptor& field,
                                  std::string_view path, std::string_view value);

// `; did you mean "steps"?` or "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace tessera::config
