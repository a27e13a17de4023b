// A number as the bytes of one element.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/types/host_tensor.h"

namespace tessera::cuda {

// In the low bytes; rounded once.
inline uint64_t bits_of(double number, DType dtype) {
  const HostTensor element = HostTensor::filled({dtype, {}}, number);
  uint64_t bits = 0;
  std::memcpy(&bits, element.bytes().data(), element.bytes().size());
  return bits;
}

}  // namespace tessera::cuda
