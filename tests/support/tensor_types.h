// The types of tensors that a test holds.
#pragma once

#include <vector>

#include "core/types/host_tensor.h"

namespace tessera {

inline std::vector<TensorType> types_of(const std::vector<HostTensor>& tensors) {
  std::vector<TensorType> types;
  for (const HostTensor& tensor : tensors) types.push_back(tensor.type());
  return types;
}

}  // namespace tessera
