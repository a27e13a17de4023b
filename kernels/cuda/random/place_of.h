// Places in device code.
#pragma once

#include "kernels/cuda/random/places.h"

namespace tessera::cuda {

__device__ __forceinline__ int64_t first_place(const RandomPlaces& places) {
  int64_t first = 0;
  for (int i = 0; i < places.starts; ++i) first += *places.start[i] * places.start_stride[i];
  return first;
}

// The element's distance from the first.
__device__ __forceinline__ int64_t place_of(const RandomPlaces& places, int64_t index) {
  if (places.rank == 1) return index * places.stride[0];
  int64_t place = 0;
  for (int d = places.rank; d-- > 0;) {
    const int64_t outer = index / places.size[d];
    place += (index - outer * places.size[d]) * places.stride[d];
    index = outer;
  }
  return place;
}

}  // namespace tessera::cuda
