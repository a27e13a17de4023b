// Saves a run, atomically: whatever happens, and whenever, the checkpoint before stays whole until
// this one is complete on the disk.
//
//     1. rank 0 removes leftovers and makes      checkpoints/step_N.tmp
//     2. every rank writes its slices to         step_N.tmp/data_RANK.bin          fsync
//     3. rank 0 gathers the lists of slices and writes manifest.pb, manifest.crc32c, fsync, fsync
//     folder
//     4. rank 0 renames step_N.tmp to step_N,                                      fsync
//     checkpoints
//     5. rank 0 removes the oldest beyond `keep`
//
// Between the steps the ranks exchange their errors, so all of them go on or all of them throw.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/runtime/communicator.h"
#include "launch/checkpoint/file_system.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/tensor_slice.h"

namespace tessera {

struct SaveReport {
  std::string path;   // of the complete checkpoint
  int64_t bytes = 0;  // of tensors, over all ranks
  double seconds = 0;
};

class CheckpointWriter {
 public:
  // Keeps the newest `keep` >= 1. `world` may be null: one rank. It and `files` must outlive this.
  CheckpointWriter(std::string output_folder, int64_t keep, World* world = nullptr,
                   FileSystem& files = posix_file_system());

  // Collective over all ranks. Each rank passes the slices that it is to write: together they must
  // cover every tensor exactly once, so of replicas one rank passes each. Padding outside a
  // tensor's logical shape is not written. Rank 0's `info` is the one that is kept.
  //
  // Throws UserError on every rank where any rank could not write (a full disk, no permission): the
  // message has the system's reason, the bytes needed and free, and the newest checkpoint that is
  // left. InternalError where the slices do not cover the tensors.
  SaveReport save(const CheckpointInfo& info, std::span<const TensorSlice> slices);

 private:
  int rank() const { return world_ == nullptr ? 0 : world_->rank(); }
  void prepare(int64_t step);
  std::vector<TensorRecord> write_slices(std::span<const TensorSlice> slices,
                                         const std::string& folder) const;
  void commit(const Manifest& manifest, const std::string& folder);
  void take_name(const std::string& folder, const std::string& final_path);
  [[noreturn]] void fail(int64_t step, const std::string& error, int64_t bytes);

  std::string output_folder_;
  int64_t keep_;
  World* world_;
  FileSystem* files_;
};

}  // namespace tessera
