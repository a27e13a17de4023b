// Copies between memories that run along different dims.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/movement/strided_copy.h"

namespace tessera::cuda {

// to[batch, r * to_pitch + c] = from[batch, c * from_pitch + r], in elements.
struct TileShape {
  int64_t rows = 1, columns = 1, from_pitch = 1, to_pitch = 1;
  CopyShape batch;  // over all other dims
};

// Elements of `bytes`: 1, 2, 4 or 8.
void transpose_tiles(int bytes, const TileShape& shape, const void* from, void* to, cudaStream_t stream);

}  // namespace tessera::cuda
