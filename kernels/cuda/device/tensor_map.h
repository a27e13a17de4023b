// How a tensor lies in device memory, and which boxes of it are copied: what the copy engine of sm_90 wants to know
// (the driver's CUtensorMap). Made on the host for each launch, and given to kernels as `const __grid_constant__
// TensorMap`; it holds the tensor's address, which in a recorded step does not change.
#pragma once

#include <array>
#include <cstdint>

namespace tessera::cuda {

struct alignas(128) TensorMap {
  uint64_t opaque[16];
};

// Finds the driver's function, once for the process. Throws UserError where the driver has none (before CUDA 12).
// Before the first capture.
void prepare_tensor_maps();

// A dense tensor of bf16, the innermost dim first: `sizes` are its elements, none 0, and `box` those of a copy. The
// innermost size is a multiple of 8; the box's is 64: rows of 128 bytes, in which a copy permutes the 16-byte pieces
// (CU_TENSOR_MAP_SWIZZLE_128B: piece p of row r goes to place p ^ r % 8). `data` is aligned to 16 bytes.
TensorMap make_tensor_map(const void* data, const std::array<int64_t, 4>& sizes, const std::array<int, 4>& box);

}  // namespace tessera::cuda
