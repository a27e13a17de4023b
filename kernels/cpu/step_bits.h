// The random bits of a training step (step_bits in core/ops/philox.h) for the elements of a shard: found
// run by run of what lies side by side in the whole tensor, 128 elements of one run at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "core/types/narrow_float.h"
#include "core/types/shape.h"
#include "kernels/cpu/block_copy.h"

namespace tessera::cpu {

struct StepDraw {
  uint64_t seed = 0, site = 0, step = 0;
};

constexpr int64_t kStepBitsRun = 1024;

// Room for the bits of a run, with what its first and last blocks hold beside it.
struct StepBits {
  alignas(64) uint16_t words[kStepBitsRun + 144];
};

// Those of elements [index, index + count) of the whole tensor, count <= kStepBitsRun. They are typed as
// bf16 so that the vector loads of simd.h take them; valid until `room` is used again.
const bfloat16* step_bits(const StepDraw& draw, int64_t index, int64_t count, StepBits& room);

// Where the elements of a shard lie in the whole tensor.
class ShardRuns {
 public:
  // `strides` are the whole tensor's, `first` is the index of the shard's first element.
  ShardRuns(const Shape& shape, const std::vector<int64_t>& strides, int64_t first)
      : rows_(shape, {strides}), row_(rows_.take_inner(1)), first_(first) {}

  // Calls body(local, index, count) for the runs that [begin, end) is cut into, of at most kStepBitsRun.
  template <typename Body>
  void each(int64_t begin, int64_t end, const Body& body) const {
    while (begin < end) {
      const int64_t in_row = begin % row_;
      int64_t count = row_ - in_row < end - begin ? row_ - in_row : end - begin;
      if (count > kStepBitsRun) count = kStepBitsRun;
      body(begin, first_ + rows_.at(begin / row_)[0] + in_row, count);
      begin += count;
    }
  }

 private:
  Places<1> rows_;  // of runs as long as the shape has them
  int64_t row_, first_;
};

}  // namespace tessera::cpu
