// What `train --profile` takes.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

struct ProfileOptions {
  // The merged trace where it ends in ".json" (the ranks' own stand beside it), else a folder for all of them.
  // "": no profile.
  std::string path;
  // Steps as the progress lines number them, from 1; 0: the third to the fifth of the run.
  int64_t first = 0, last = 0;

  bool wanted() const { return !path.empty(); }
  std::string merged_file() const;
  std::string rank_file(int rank) const;
};

// From --profile and --profile-steps ("10:12", "10" or ""). ConfigError where the steps are no such range, or are
// given without a path.
ProfileOptions parse_profile_options(const std::string& path, const std::string& steps);

}  // namespace tessera
