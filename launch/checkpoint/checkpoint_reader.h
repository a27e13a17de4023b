// Reads any box of any tensor of a checkpoint, from whatever slices its files hold.
//
// Every slice that is touched is read whole and checked against its checksum before a byte of it is
// used. One reader is used by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/tensor_slice.h"

namespace tessera {

class CheckpointReader {
 public:
  // Reads the manifest in `path` (a step_N folder) and looks at the sizes of the files; no tensor
  // yet. Throws CorruptCheckpoint where something is missing, truncated or altered.
  explicit CheckpointReader(std::string path);
  ~CheckpointReader();
  CheckpointReader(CheckpointReader&&) noexcept;

  const std::string& path() const { return path_; }
  const CheckpointInfo& info() const { return manifest_.info; }
  const std::vector<TensorRecord>& tensors() const { return manifest_.tensors; }
  const TensorRecord* find(const std::string& name) const;  // null where there is none
  int64_t bytes() const;                                    // of all tensors

  // Fills target.data; what lies outside the tensor is zero. The target's name, dtype and shape
  // must be the checkpoint's (see check_same_model). Throws CorruptCheckpoint naming file and
  // tensor; then some of the target may have been written.
  void read(const TensorTarget& target);

  // Reads every slice and checks it. Throws CorruptCheckpoint for the first that is damaged.
  void verify();

 private:
  class DataFile;

  void check_sizes() const;
  std::span<const std::byte> read_slice(const TensorSpec& tensor, const SliceRecord& slice);

  std::string path_;
  Manifest manifest_;
  std::map<std::string, const TensorRecord*> by_name_;
  std::map<std::string, DataFile> files_;  // open ones
  std::vector<std::byte> buffer_;
};

// Compares the tensors that a job expects with those of a checkpoint. Roles of which the job
// expects none (the optimizer's, where only parameters are wanted) are left aside. Throws UserError
// that lists missing, unexpected and misshapen tensors, at most 20 of each, and their counts.
void check_same_model(const CheckpointReader& checkpoint, std::span<const TensorSpec> expected);

}  // namespace tessera
