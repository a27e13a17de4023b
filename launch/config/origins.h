// Where each value of a config comes from, by its path ("train.steps", "sharding.mesh[0].size").
#pragma once

#include <map>
#include <string>

#include "launch/config/job_config.h"

namespace google::protobuf {
class Message;
}

namespace tessera::config {

using Origins = std::map<std::string, Origin>;

// Forgets `path` and everything under it, then notes `origin` for every field set under `path` in
// `message`, which is the root of the config.
void set_origin(Origins& origins, const google::protobuf::Message& root, const std::string& path,
                const Origin& origin);

// The origin of exactly `path`; built_in if nothing gave it.
Origin origin_of(const Origins& origins, const std::string& path);

// How a message about the value at `path` begins: "quickstart.textproto:12: ", "--set a=b: ", or
// just the job's name where the value is a default.
std::string place_of(const JobConfig& job, const std::string& path);

}  // namespace tessera::config
