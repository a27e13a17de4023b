// Places in device code.
#pragma once

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/random/places.h"

namespace tessera::cuda {

template <typename Places>
__device__ __forceinline__ int64_t first_place(const Places& places) {
  int64_t first = 0;
  for (int i = 0; i < places.starts; ++i) first += *places.start[i] * places.start_stride[i];
  return first;
}

// The element's distance from the first.
template <typename Places>
__device__ __forceinline__ int64_t place_of(const Places& places, int64_t index) {
  if (places.rank == 1) return index * places.stride[0];
  int64_t place = 0;
  for (int d = places.rank; d-- > 0;) {
    const int64_t outer = index / places.size[d];
    place += (index - outer * places.size[d]) * places.stride[d];
    index = outer;
  }
  return place;
}

constexpr int kRandomThreads = 256;  // of a block
// Neighbours, written as one pack: a block of Philox in 32 bits, where they lie in one.
constexpr int kRandomPerThread = 4;

// Blocks that write `places`.
inline dim3 random_blocks(const RandomPlaces& places) {
  return dim3(blocks_for(places.count, kRandomThreads * kRandomPerThread, 65536));
}

// to[i] = make(place of i), by all threads of the grid.
template <typename T, typename Make>
__device__ __forceinline__ void write_places(const RandomPlaces& places, T* to, Make&& make) {
  constexpr int kPack = kRandomPerThread;
  const int64_t first = first_place(places), step = static_cast<int64_t>(gridDim.x) * kRandomThreads * kPack;
  for (int64_t at = (static_cast<int64_t>(blockIdx.x) * kRandomThreads + threadIdx.x) * kPack; at < places.count;
       at += step) {
    Pack<T, kPack> pack;
#pragma unroll
    for (int i = 0; i < kPack; ++i) pack.value[i] = make(first + place_of(places, at + i));
    if (at + kPack <= places.count) {
      store<kPack>(to + at, pack);
      continue;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (at + i < places.count) to[at + i] = pack.value[i];
  }
}

}  // namespace tessera::cuda
