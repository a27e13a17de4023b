// Stands in for kernels/cuda/device/opaque.h.
#pragma once

namespace tessera::cuda {

inline int opaque(int x) { return x; }
inline unsigned opaque(unsigned x) { return x; }

}  // namespace tessera::cuda
