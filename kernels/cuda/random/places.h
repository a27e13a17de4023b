// Where the elements of a shard lie in the whole tensor: random numbers are functions of that alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

constexpr int kMaxRandomRank = 8;

struct RandomPlaces {
  int64_t count = 0;  // elements of the shard
  // Its dims, those that step as one merged, and their strides in the whole tensor.
  int rank = 0;
  int64_t size[kMaxRandomRank] = {};
  int64_t stride[kMaxRandomRank] = {};
  // Where it starts: numbers in device memory, and what one of each is in elements.
  int starts = 0;
  const int64_t* start[kMaxRandomRank] = {};
  int64_t start_stride[kMaxRandomRank] = {};
};

}  // namespace tessera::cuda
