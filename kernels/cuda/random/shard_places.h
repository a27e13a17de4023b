// Places of a shard, from its shape, the whole tensor's strides and the start operands.
#pragma once

#include "core/runtime/kernel_table.h"
#include "kernels/common/op_support.h"
#include "kernels/cuda/random/places.h"

namespace tessera::cuda {

struct PlaceDim {
  int64_t size, stride;
};

// Neighbours that step as one dim merged.
inline std::vector<PlaceDim> merged_dims(const Shape& shape, const std::vector<int64_t>& strides) {
  std::vector<PlaceDim> inner_first;
  for (int d = shape.rank(); d-- > 0;) {
    const int64_t size = shape[d], stride = strides[static_cast<size_t>(d)];
    if (size == 1) continue;
    if (!inner_first.empty() && stride == inner_first.back().stride * inner_first.back().size)
      inner_first.back().size *= size;
    else
      inner_first.push_back({size, stride});
  }
  if (inner_first.empty()) inner_first.push_back({1, 1});
  return {inner_first.rbegin(), inner_first.rend()};
}

template <int kRank>
Refusal refuse_places(const Shape& shape, const std::vector<int64_t>& strides, size_t starts) {
  if (merged_dims(shape, strides).size() > kRank || starts > kRank)
    return cat("compiled for shards of at most ", kRank, " dims");
  return std::nullopt;
}

// `starts` are operands in device memory, and what one of each is in elements.
template <int kRank>
PlacesOfRank<kRank> places_of(const Shape& shape, const std::vector<int64_t>& strides,
                              std::span<const TensorView> starts, const std::vector<int64_t>& start_strides) {
  PlacesOfRank<kRank> places;
  places.count = shape.elements();
  for (const PlaceDim& dim : merged_dims(shape, strides)) {
    places.size[places.rank] = dim.size;
    places.stride[places.rank++] = dim.stride;
  }
  for (size_t i = 0; i < starts.size(); ++i) {
    places.start[i] = starts[i].as<const int64_t>();
    places.start_stride[i] = start_strides[i];
  }
  places.starts = static_cast<int>(starts.size());
  return places;
}

}  // namespace tessera::cuda
