// Small per-thread scratch of kernels: blocks of bounded size that stay in cache. It grows during a
// thread's first calls and is kept; what depends on a tensor's size is planned workspace instead.
#pragma once

#include <cstddef>

namespace tessera::cpu {

// At least `bytes` at 64-byte alignment, valid until this thread's next call with the same slot.
// `slot` < 4 keeps nested users apart.
std::byte* thread_scratch(int slot, size_t bytes);

template <typename T>
T* scratch_array(int slot, size_t count) {
  return reinterpret_cast<T*>(thread_scratch(slot, count * sizeof(T)));
}

}  // namespace tessera::cpu
