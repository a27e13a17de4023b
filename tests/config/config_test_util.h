// What the tests of configs share: a small valid job, and the message of a bad one.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "launch/config/load.h"

namespace tessera {

// One value a line, so that a test can count lines.
inline const char* const kSmallJob = R"(model {
  family: gpt2
  layers: 2
  embed: 32
  heads: 4
}
data { paths: "corpus.txt" }
train {
  steps: 100
  global_batch: 8
  sequence_length: 16
}
)";

inline LoadOptions on_devices(int64_t count, std::vector<std::string> sets = {}) {
  LoadOptions options;
  options.device_count = count;
  options.sets = std::move(sets);
  return options;
}

inline JobConfig small_job(const LoadOptions& options = on_devices(1)) {
  return load_job_text(kSmallJob, "small.textproto", options);
}

// The message of the ConfigError that loading `text` throws; "no error" if it throws none.
inline std::string error_of(const std::string& text, const LoadOptions& options = on_devices(1)) {
  try {
    load_job_text(text, "job.textproto", options);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

// A folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tessera-config-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  // Writes a file, with the folders on its way, and returns its path.
  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path.string();
  }

  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace tessera
