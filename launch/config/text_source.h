// Reads a protobuf text into a message, with every error that can be told apart in one go, and with
// the line of every field.
#pragma once

#include <string>

#include "launch/config/origins.h"
#include "launch/config/problems.h"

namespace google::protobuf {
class Message;
}

namespace tessera::config {

// Parses `text` into `message`. Problems read "NAME:LINE: ...". A field with a wrong value is
// reported and taken out, so that what follows is read too. Field paths in messages and in
// `origins` start with `prefix` ("" for a job, "sharding" for a sharding file).
void parse_text(const std::string& text, const std::string& name, const std::string& prefix,
                google::protobuf::Message& message, Origins& origins, Problems& problems);

// The bytes of a config file; `kind` ("job file") is for the message when it cannot be read.
std::string read_config_file(const std::string& path, const std::string& kind);

}  // namespace tessera::config
