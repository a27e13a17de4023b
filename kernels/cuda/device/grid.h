// How many blocks a launch gets.
#pragma once

#include <cstdint>

namespace tessera::cuda {

// Blocks for `items`, each of which takes `per_block`; at most `most`, beyond which kernels walk on in steps
// of the grid. At least one.
inline unsigned blocks_for(int64_t items, int64_t per_block, int64_t most = (int64_t{1} << 31) - 1) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// Whether all the addresses are multiples of `bytes`, a power of two.
template <typename... Pointers>
bool are_aligned(int64_t bytes, Pointers... pointers) {
  return (... && (reinterpret_cast<uintptr_t>(pointers) % static_cast<uintptr_t>(bytes) == 0));
}

}  // namespace tessera::cuda
