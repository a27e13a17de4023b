// Uniform random floats by Philox (core/ops/random.h).
#pragma once

#include "kernels/cuda/random/places.h"

namespace tessera::cuda {

// to[i] = the top `precision` bits of draw (seed, site) at element i's place, as a number in [0, 1).
// T is float, bf16 or double, and holds `precision` bits exactly.
template <typename T>
void random_uniform(uint64_t seed, uint64_t site, int precision, const RandomPlaces& places, T* to,
                    cudaStream_t stream);

}  // namespace tessera::cuda
