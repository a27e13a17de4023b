// The inputs of a program: files where they are given, random numbers for the rest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/hlo/input_uses.h"
#include "launch/hlo/npy.h"
#include "partitioner/hlo/import.h"

namespace tessera {

struct InputOptions {
  std::vector<std::string> files;  // .npy, for the first inputs in order; or folders of input.I.npy
  uint64_t seed = 0;
  bool integers = false;  // floats are whole numbers in [-4, 4], so that sums are exact
};

class ProgramInputs {
 public:
  // `graph` has the inputs `leaves`. Throws ConfigError for more files than inputs, UserError
  // for a file whose type is not the input's (naming both) or that cannot be read.
  ProgramInputs(const Graph& graph, std::vector<hlo::BoundaryLeaf> leaves, const InputOptions& options);

  size_t size() const { return leaves_.size(); }
  size_t files() const { return files_.size(); }

  // The block of input `index` that starts at `start`. Random elements depend on the seed, the
  // input's number and the element's place in the whole tensor alone: floats are normal with
  // deviation 0.3 (their magnitudes, where roots of them are taken), preds a coin, integers that index lie in range, words of bits have any, other
  // integers are in [0, 8).
  HostTensor block(size_t index, std::span<const int64_t> start, const Shape& shape) const;
  HostTensor whole(size_t index) const;

 private:
  void fill_random(size_t index, int64_t element, HostTensor& tensor, int64_t at) const;

  std::vector<hlo::BoundaryLeaf> leaves_;
  std::vector<InputUse> uses_;
  std::vector<NpyFile> files_;
  uint64_t seed_;
  bool integers_;
};

}  // namespace tessera
