// `--set path=value`: changes one value of a config from the command line.
//
//     train.steps=200                          a scalar; texts and enum names need no quotes
//     sharding.mesh[0].size=4                  an element of a list, counted from 0
//     data.paths=[a.txt,b.txt]                 a whole list
//     data.paths+=c.txt                        one more element (or several, in [...])
//     optimizer={kind: adamw beta2: 0.99}      a whole block, in textproto
#pragma once

#include <string>

#include "launch/config/origins.h"
#include "launch/config/problems.h"

namespace tessera::config {

// Applies one argument to `root`; problems name the argument, the field and the nearest right name.
void apply_set(const std::string& argument, google::protobuf::Message& root, Origins& origins,
               Problems& problems);

// The path and the value of an argument, without applying it ("" where there is no '=').
struct SetParts {
  std::string path;
  std::string value;
  bool append = false;
};
SetParts split_set(const std::string& argument);

}  // namespace tessera::config
