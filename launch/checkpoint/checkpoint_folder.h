// The checkpoints of a run: OUT/checkpoints/step_00000100, step_00000200, ...
//
//     step_N            complete: the name appears by one rename, after all its bytes are on the
//     disk step_N.tmp        being written, or left by a run that was killed; removed by the next
//     save step_N.replaced   an older checkpoint of the same step, while the new one takes its
//     name; read
//                       only where a kill between the two renames left no step_N
//     step_N.abandoned  of steps past the one that was resumed; kept for the user, never read
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launch/checkpoint/file_system.h"

namespace tessera {

inline constexpr std::string_view kTemporarySuffix = ".tmp";
inline constexpr std::string_view kReplacedSuffix = ".replaced";
inline constexpr std::string_view kAbandonedSuffix = ".abandoned";

struct CheckpointEntry {
  int64_t step = 0;
  std::string path;
};

std::string checkpoints_folder(const std::string& output_folder);  // OUT/checkpoints
std::string step_name(int64_t step);                               // step_00000100

// The checkpoints in OUT/checkpoints, newest first, by name alone: none has been read. Empty where
// there is no such folder; throws IoError where it cannot be read.
std::vector<CheckpointEntry> list_checkpoints(const std::string& output_folder);

// What a user may name: a checkpoint (step_N), OUT/checkpoints or OUT; its checkpoints, newest
// first. Throws UserError where there is none, saying what is there.
std::vector<CheckpointEntry> find_checkpoints(const std::string& path);

// Removes what killed runs left half done.
void remove_leftovers(const std::string& output_folder, FileSystem& files);

// Once `step` is complete: keeps the newest `keep` up to it (it included, keep >= 1), removes older
// ones, and sets aside those of later steps, which a resume from an earlier one has abandoned. What
// cannot be removed gives a warning.
void prune_checkpoints(const std::string& output_folder, int64_t step, int64_t keep,
                       FileSystem& files);

}  // namespace tessera
