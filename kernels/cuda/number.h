// The element types that kernels compute on, as both host and device code name them.
#pragma once

#include <cstdint>

namespace tessera::cuda {

// bfloat16 as stored. Device code converts with device/number.h; nothing computes in it.
struct bf16 {
  uint16_t bits;
};

}  // namespace tessera::cuda
