// Runs the plan verb through its C++ entry and reads what it says.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "launch/verbs/verbs.h"

namespace tessera::plan_testing {

using Json = nlohmann::json;

inline std::string source_path(const std::string& path) { return cat(TESSERA_SOURCE_DIR, "/", path); }
inline std::string preset_path(const std::string& preset) {
  return source_path(cat("launch/configs/sharding/", preset, ".textproto"));
}

// The quickstart's job under a preset.
inline PlanArguments quickstart(const std::string& preset, const std::string& mesh,
                                std::vector<std::string> sets = {}) {
  PlanArguments arguments;
  arguments.job.job = source_path("launch/configs/quickstart.textproto");
  arguments.job.sharding_file = preset_path(preset);
  arguments.job.mesh = mesh;
  arguments.job.sets = std::move(sets);
  return arguments;
}

struct Output {
  std::string text;
  Json json;
};

// Standard output and the --json file of a plan that succeeds.
inline Output run(PlanArguments arguments) {
  const std::filesystem::path file = std::filesystem::temp_directory_path() / cat("tessera_plan_", getpid(), ".json");
  arguments.json = file.string();
  testing::internal::CaptureStdout();
  const int code = run_plan(arguments);
  Output output{testing::internal::GetCapturedStdout(), {}};
  EXPECT_EQ(code, 0);
  if (std::ifstream in(file); in) output.json = Json::parse(in);
  std::filesystem::remove(file);
  return output;
}

// One entry of "collectives"; zeros where there is none.
struct Entry {
  int64_t count = 0, bytes = 0, layer_count = 0, layer_bytes = 0;
};
inline Entry entry(const Json& plan, const std::string& op, const std::string& axes) {
  for (const Json& one : plan.at("collectives"))
    if (one.at("op") == op && one.at("axes") == axes)
      return {one.at("count"), one.at("bytes"), one.at("layer_count"), one.at("layer_bytes")};
  return {};
}

// Bytes of all collectives of that op (any axes that name `axis`).
inline int64_t bytes_over(const Json& plan, const std::string& op, const std::string& axis) {
  int64_t bytes = 0;
  for (const Json& one : plan.at("collectives"))
    if (one.at("op") == op && one.at("axes").get<std::string>().find(axis) != std::string::npos)
      bytes += one.at("bytes").get<int64_t>();
  return bytes;
}

inline int64_t memory(const Json& plan, const std::string& kind) {
  return plan.at("memory_per_device").at(kind).get<int64_t>();
}

inline std::string message_of(const PlanArguments& arguments) {
  try {
    testing::internal::CaptureStdout();
    run_plan(arguments);
  } catch (const ConfigError& error) {
    testing::internal::GetCapturedStdout();
    return error.what();
  }
  testing::internal::GetCapturedStdout();
  return "no error";
}

}  // namespace tessera::plan_testing
