// Boxes of elements that lie with other strides in each of two memories: what moves of most movement is.
//
// The host merges what steps as one and finds the widest access; the device gets the rest by value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/types/shape.h"
#include "kernels/cuda/movement/strided_copy.h"

namespace tessera::cuda {

// Dims outermost first, strides in elements of `width` bytes (1, 2, 4 or 8), 0 and negative ones allowed.
struct Box {
  struct Dim {
    int64_t size, from, to;
  };
  int64_t width = 0;
  std::vector<Dim> dims;

  // The elements of `shape`, dense in the result.
  Box() = default;
  Box(const TensorType& type, const std::vector<int64_t>& from) : Box(type, from, type.shape.strides()) {}
  Box(const TensorType& type, const std::vector<int64_t>& from, const std::vector<int64_t>& to);

  int64_t elements() const;
  // Without dims of size 1, neighbours that step as one merged.
  Box merged() const;
};

// What copy_box cannot do, decided by shapes alone.
std::optional<std::string> refuse_box(const Box& box);

// Copies the box; `from` and `to` are device memory of its origin, which must not overlap. `starts` move one of
// them by amounts that the device knows: see strided_copy.h.
void copy_box(const Box& box, const void* from, void* to, cudaStream_t stream, const DeviceStarts& starts = {});

}  // namespace tessera::cuda
