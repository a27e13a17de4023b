// Where the elements of a shard lie in the whole tensor: random numbers are functions of that alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

template <int kRank>
struct PlacesOfRank {
  static constexpr int kMaxRank = kRank;

  int64_t count = 0;  // elements of the shard
  // Its dims, those that step as one merged, and their strides in the whole tensor.
  int rank = 0;
  int starts = 0;
  int64_t size[kRank] = {};
  int64_t stride[kRank] = {};
  // Where it starts: numbers in device memory, and what one of each is in elements.
  const int64_t* start[kRank] = {};
  int64_t start_stride[kRank] = {};
};
constexpr int kMaxRandomRank = 8;
using RandomPlaces = PlacesOfRank<kMaxRandomRank>;

}  // namespace tessera::cuda
