// What a rank gives to a checkpoint and takes from one: boxes of logical tensors.
//
// Coordinates are always logical. A box may reach past the end of its tensor, as the last shard of
// a padded one does: the part outside is padding, which is never written and is zero when read.
//
//     logical vocabulary 259, padded to 384, two ranks of 192 rows:
//     rank 0: start {0}, shape {192} -> rows [0, 192)    rank 1: start {192}, shape {192} -> [192,
//     259)
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/types/shape.h"

namespace tessera {

// A logical tensor: its name comes from the model, `role` says what it is for ("parameter",
// "moment1", ...).
struct TensorSpec {
  std::string name;
  std::string role;
  TensorType type;

  bool operator==(const TensorSpec&) const = default;
};

// A box to be saved, dense and row-major, of extent `shape` (padding included).
struct TensorSlice {
  TensorSpec tensor;
  std::vector<int64_t> start;
  Shape shape;
  const std::byte* data = nullptr;  // on the host; or else, for what lies on a device:
  // Copies `bytes` from `offset` on to the host.
  std::function<void(std::byte* to, int64_t offset, int64_t bytes)> fetch = nullptr;
};

// A box to be loaded.
struct TensorTarget {
  TensorSpec tensor;
  std::vector<int64_t> start;
  Shape shape;
  std::byte* data = nullptr;  // on the host; or else, for what lies on a device:
  // Takes the whole box, dense and row-major.
  std::function<void(const std::byte* box)> deliver = nullptr;
};

// A box of a tensor, in its coordinates.
struct Box {
  std::vector<int64_t> start;
  Shape shape;

  bool empty() const;  // of no elements
};

// What two boxes of equal rank have in common; empty() where they do not meet.
Box intersect(const Box& a, const Box& b);

// `box` without what lies outside a tensor of shape `whole`.
Box clip(const Box& box, const Shape& whole);

// Cuts `box` along its first dim larger than 1 into boxes of at most `most_bytes` each where that
// dim permits; in order, and each dense inside the dense box.
std::vector<Box> cut_box(const Box& box, int64_t element_bytes, int64_t most_bytes);

}  // namespace tessera
