// What a checkpoint says about itself: proto/checkpoint.proto as plain structs, and its files.
//
//     OUT/checkpoints/step_00000100/
//         data_00000.bin ...   the slices that rank 0 ... wrote, one after the other
//         manifest.pb          CheckpointManifest, binary (protoc --decode reads it)
//         manifest.crc32c      its checksum and size, as text; the last file written
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "launch/checkpoint/tensor_slice.h"
#include "launch/data/batches.h"

namespace tessera {

inline constexpr const char* kManifestFile = "manifest.pb";
inline constexpr const char* kManifestChecksumFile = "manifest.crc32c";

// A checkpoint whose bytes are not what was written: truncated, flipped or missing. The message
// names file and tensor. A resume falls back to the checkpoint before.
class CorruptCheckpoint : public UserError {
 public:
  using UserError::UserError;
};

// All that a run needs besides tensors, and what tells a reader where they come from.
struct CheckpointInfo {
  int64_t step = 0;  // optimizer steps done
  DataPosition data;
  int64_t epoch_size = 0;           // sequences of an epoch, to notice a corpus that has changed
  uint32_t corpus_fingerprint = 0;  // Corpus::fingerprint(), 0 if unknown
  int64_t seed = 0;                 // train.seed
  int64_t tokens = 0;               // trained on so far
  std::optional<double> loss;       // of the last step, nats per token
  std::string config_text;          // the effective config, textproto
  std::string commit;
  std::map<std::string, std::string> libraries;       // name -> version
  std::map<std::string, std::string> determinism;     // what bitwise equality depends on
  std::vector<std::pair<std::string, int64_t>> mesh;  // axis, size: when it was saved

  bool operator==(const CheckpointInfo&) const = default;
};

// Where a box of a tensor lies.
struct SliceRecord {
  std::string file;  // within the checkpoint's folder
  int64_t offset = 0;
  int64_t bytes = 0;
  Box box;
  uint32_t crc = 0;
};

struct TensorRecord {
  TensorSpec tensor;
  std::vector<SliceRecord> slices;  // cover it exactly once

  int64_t stored_elements() const;
};

struct Manifest {
  CheckpointInfo info;
  std::vector<TensorRecord> tensors;  // in order of name
};

std::string serialize(const Manifest& manifest);

// Throws CorruptCheckpoint, with `path` in the message, where the bytes are no manifest, a slice
// lies outside its tensor, or the slices do not add up to it; UserError where a newer format wrote
// it.
Manifest parse_manifest(const std::string& bytes, const std::string& path);

// What ranks tell each other: records that each hold a part of the slices.
std::string serialize_records(const std::vector<TensorRecord>& records);
std::vector<TensorRecord> parse_records(const std::string& bytes);

// Joins what each rank wrote into one record a tensor. Throws InternalError where ranks disagree
// about a tensor, or the slices do not cover it exactly once.
std::vector<TensorRecord> merge_records(const std::vector<std::vector<TensorRecord>>& by_rank);

// "e3069283 1234\n": the text of manifest.crc32c.
std::string checksum_line(std::string_view bytes);

}  // namespace tessera
