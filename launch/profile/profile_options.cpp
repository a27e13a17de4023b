#include "launch/profile/profile_options.h"

#include <charconv>
#include <cstdio>

#include "core/base/error.h"

namespace tessera {
namespace {

constexpr std::string_view kEnding = ".json";

bool names_file(const std::string& path) {
  return path.size() > kEnding.size() && path.compare(path.size() - kEnding.size(), kEnding.size(), kEnding) == 0;
}

// A whole number above 0; 0 where it is none.
int64_t step_number(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number > 0 ? number : 0;
}

}  // namespace

std::string ProfileOptions::merged_file() const { return names_file(path) ? path : path + "/trace.json"; }

std::string ProfileOptions::rank_file(int rank) const {
  char name[32];
  std::snprintf(name, sizeof name, "rank_%05d.json", rank);
  return names_file(path) ? path.substr(0, path.size() - kEnding.size()) + "." + name : path + "/" + name;
}

ProfileOptions parse_profile_options(const std::string& path, const std::string& steps) {
  ProfileOptions options{.path = path};
  if (steps.empty()) return options;
  if (path.empty())
    throw_config_error("--profile-steps ", steps, " without --profile PATH: say where the trace shall be written");
  const size_t colon = steps.find(':');
  options.first = step_number(std::string_view(steps).substr(0, colon));
  options.last = colon == std::string::npos ? options.first : step_number(std::string_view(steps).substr(colon + 1));
  if (options.first < 1 || options.last < options.first)
    throw_config_error("--profile-steps ", steps, ": write FIRST:LAST, two step numbers of which the first is at "
                       "least 1 and not above the last, e.g. 10:12");
  return options;
}

}  // namespace tessera
