// Random operands for tests of ops and kernels.
#pragma once

#include <algorithm>
#include <random>
#include <utility>

#include "core/types/host_tensor.h"

namespace tessera {

// Uniform in `range`, which for integers is inclusive.
inline HostTensor random_operand_tensor(const TensorType& type, unsigned seed,
                                        std::pair<double, double> range) {
  HostTensor tensor(type);
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> reals(range.first, range.second);
  const auto low = static_cast<int64_t>(range.first), high = static_cast<int64_t>(range.second);
  std::uniform_int_distribution<int64_t> integers(std::min(low, high), high);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (is_float(type.dtype))
      tensor.set_real(i, reals(generator));
    else
      tensor.set_int(i, integers(generator));
  }
  return tensor;
}

}  // namespace tessera
