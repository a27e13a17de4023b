// Blocks of dense tensors: what slices at positions that are data, gathers and scatters move.
//
// A block is a box of elements that lies with other strides in each of two memories. It is walked
// as runs that are contiguous in both, so that most blocks are one memcpy or a few.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/types/shape.h"

namespace tessera::cpu {

// The places of a box in row-major order, as offsets into kMemories memories. Neighbouring dims
// that step as one in all memories are merged.
template <int kMemories>
class Places {
 public:
  using Offsets = std::array<int64_t, kMemories>;

  Places() = default;
  // `strides[m]` has a stride per dim of `extent`, in any unit.
  Places(const Shape& extent, const std::array<std::vector<int64_t>, kMemories>& strides);

  int64_t count() const { return count_; }
  Offsets at(int64_t place) const {
    Offsets offsets{};
    if (dims_.empty()) return offsets;
    for (size_t d = dims_.size() - 1; d > 0; --d) {
      const int64_t rest = place / dims_[d].size, index = place - rest * dims_[d].size;
      for (int m = 0; m < kMemories; ++m) offsets[m] += index * dims_[d].steps[m];
      place = rest;
    }
    for (int m = 0; m < kMemories; ++m) offsets[m] += place * dims_[0].steps[m];
    return offsets;
  }
  // The step from each place to the next, where it is the same everywhere.
  bool is_line() const { return dims_.size() <= 1; }
  Offsets step() const { return dims_.empty() ? Offsets{} : dims_[0].steps; }
  // Takes out the innermost dim where it steps by `step` in all memories; its size, else 1.
  int64_t take_inner(int64_t step);

 private:
  struct Dim {
    int64_t size;
    Offsets steps;
  };
  std::vector<Dim> dims_;  // outermost first
  int64_t count_ = 1;
};

// A block of `extent` elements of `width` bytes, with strides in elements of both memories.
class Block {
 public:
  Block(int64_t width, const Shape& extent, const std::vector<int64_t>& from,
        const std::vector<int64_t>& to);

  int64_t runs() const { return runs_.count(); }
  int64_t run_bytes() const { return run_bytes_; }
  int64_t bytes() const { return runs() * run_bytes_; }
  // Byte offsets {from, to} of a run.
  std::array<int64_t, 2> run(int64_t index) const { return runs_.at(index); }

  // Copies runs [begin, end), on this thread; the memories must not overlap.
  void copy(int64_t begin, int64_t end, const std::byte* from, std::byte* to) const;
  // All of them, on several threads where it pays.
  void copy(const std::byte* from, std::byte* to) const;

 private:
  Places<2> runs_;
  int64_t run_bytes_ = 0;
};

// Runs that one task copies: about 256 KiB.
int64_t runs_per_task(const Block& block);

// from to to, on several threads where it pays; nothing where they are one.
void copy_bytes(int64_t bytes, const void* from, void* to);

}  // namespace tessera::cpu
