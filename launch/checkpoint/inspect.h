// What is in a checkpoint, for people and for scripts: the body of `tessera inspect`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/checkpoint/checkpoint_reader.h"

namespace tessera {

struct TensorReport {
  TensorSpec tensor;
  int64_t slices = 0;
  std::optional<double> norm;  // Euclidean, accumulated in double; only of float tensors
};

struct CheckpointReport {
  std::string path;
  CheckpointInfo info;
  std::vector<TensorReport> tensors;  // in order of name
  int64_t bytes = 0;
  int64_t parameters = 0;  // elements of the tensors of role "parameter"
};

// With `norms`, reads and checks every slice; otherwise the manifest and the files' sizes only.
CheckpointReport inspect_checkpoint(CheckpointReader& checkpoint, bool norms);

// A line of facts, then a line a tensor: name, type, role, bytes, slices, and norm where known.
std::string describe(const CheckpointReport& report);

}  // namespace tessera
