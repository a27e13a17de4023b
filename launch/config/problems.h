// The list of everything wrong with a config, so that a user mends all of it in one go.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace tessera::config {

class Problems {
 public:
  template <typename... Parts>
  void add(const Parts&... parts) {
    std::string line = cat(parts...);
    for (const std::string& known : lines_) {
      if (known == line) return;
    }
    lines_.push_back(std::move(line));
  }

  bool empty() const { return lines_.empty(); }
  const std::vector<std::string>& lines() const { return lines_; }

  // Throws ConfigError with all problems, if there are any. `subject` is the config's name.
  void throw_if_any(const std::string& subject) const {
    if (lines_.empty()) return;
    if (lines_.size() == 1) throw ConfigError(lines_.front());
    throw ConfigError(cat(subject, " has ", lines_.size(), " problems:\n  ", join(lines_, "\n  ")));
  }

 private:
  std::vector<std::string> lines_;
};

}  // namespace tessera::config
