#include "launch/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "core/base/log.h"
#include "launch/checkpoint/manifest.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_";

// "step_00000100.tmp" -> 100 and ".tmp".
struct StepName {
  int64_t step;
  std::string suffix;
};

std::optional<StepName> parse_name(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  StepName parsed{};
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, parsed.step);
  if (error != std::errc() || parsed.step < 0) return std::nullopt;
  parsed.suffix.assign(stop, end);
  return parsed;
}

struct NamedEntry {
  StepName name;
  std::string path;
};

std::vector<NamedEntry> list_entries(const std::string& folder) {
  std::vector<NamedEntry> entries;
  std::error_code error;
  if (!fs::exists(folder, error)) return entries;
  auto entry = fs::directory_iterator(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error))
    if (const auto name = parse_name(entry->path().filename().string()))
      entries.push_back({*name, entry->path().string()});
  if (error) throw IoError(cat("folder ", folder, " cannot be read"), error.value());
  return entries;
}

std::vector<CheckpointEntry> complete_ones(const std::string& folder) {
  std::vector<NamedEntry> entries = list_entries(folder);
  std::erase_if(entries, [](const NamedEntry& entry) {
    return !entry.name.suffix.empty() && entry.name.suffix != kReplacedSuffix;
  });
  // Of one step, the one that has the name comes before the one that lost it.
  std::sort(entries.begin(), entries.end(), [](const NamedEntry& a, const NamedEntry& b) {
    return a.name.step != b.name.step ? a.name.step > b.name.step : a.name.suffix < b.name.suffix;
  });
  std::vector<CheckpointEntry> result;
  for (const NamedEntry& entry : entries) result.push_back({entry.name.step, entry.path});
  return result;
}

}  // namespace

std::string checkpoints_folder(const std::string& output_folder) {
  return output_folder + "/checkpoints";
}

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step_%08lld", static_cast<long long>(step));
  return name;
}

std::vector<CheckpointEntry> list_checkpoints(const std::string& output_folder) {
  return complete_ones(checkpoints_folder(output_folder));
}

std::vector<CheckpointEntry> find_checkpoints(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found)
    throw_user_error("checkpoint ", path, " does not exist");
  if (fs::exists(fs::path(path) / kManifestFile, error)) {
    const auto name = parse_name(fs::path(path).lexically_normal().filename().string());
    return {{name ? name->step : 0, path}};
  }
  for (const std::string& folder : {checkpoints_folder(path), path}) {
    std::vector<CheckpointEntry> found = complete_ones(folder);
    if (!found.empty()) return found;
  }
  throw_user_error(
      path, " holds no checkpoint: neither a ", kManifestFile,
      " nor folders named checkpoints/step_N. Name an output folder or one checkpoint");
}

void remove_leftovers(const std::string& output_folder, FileSystem& files) {
  const std::string folder = checkpoints_folder(output_folder);
  for (const NamedEntry& entry : list_entries(folder)) {
    std::error_code ignored;
    const std::string& suffix = entry.name.suffix;
    const bool superseded =
        suffix == kReplacedSuffix && fs::exists(folder + "/" + step_name(entry.name.step), ignored);
    if (suffix == kTemporarySuffix || superseded) files.remove_all(entry.path);
  }
}

void prune_checkpoints(const std::string& output_folder, int64_t step, int64_t keep,
                       FileSystem& files) {
  TESSERA_CHECK(keep >= 1, "keep ", keep, " checkpoints");
  int64_t kept = 0;
  for (const CheckpointEntry& entry : list_checkpoints(output_folder)) {
    try {
      if (entry.step > step) {
        const std::string aside = entry.path + std::string(kAbandonedSuffix);
        files.remove_all(aside);
        files.rename(entry.path, aside);
        log_warning("checkpoint ", entry.path, " is of a later step than ", step,
                    ", from a run that was resumed before it; it is now ", aside);
      } else if (++kept > keep) {
        // First out of sight: a kill in the middle leaves a leftover, not half a checkpoint.
        const std::string doomed = checkpoints_folder(output_folder) + "/" + step_name(entry.step) +
                                   std::string(kTemporarySuffix);
        files.remove_all(doomed);
        files.rename(entry.path, doomed);
        files.remove_all(doomed);
      }
    } catch (const IoError& error) {
      log_warning("an old checkpoint stays: ", error.what());
    }
  }
}

}  // namespace tessera
