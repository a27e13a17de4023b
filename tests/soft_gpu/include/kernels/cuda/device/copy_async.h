// Stands in for kernels/cuda/device/copy_async.h. What is asked for arrives when it is waited for, and until then
// its place holds NaN: a missing wait shows, and so does a copy to where others still read.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <unordered_map>
#include <vector>

namespace tessera::cuda {

namespace soft {

struct AsyncCopy {
  void* to;
  const void* from;
  int bytes;
  bool inside;
};
// Of one thread of the block.
struct AsyncCopies {
  std::vector<AsyncCopy> open;              // not yet in a group
  std::deque<std::vector<AsyncCopy>> groups;  // the oldest first
};
inline AsyncCopies& async_copies() {
  static thread_local std::unordered_map<const void*, AsyncCopies> all;
  return all[&::soft_gpu::current_thread()];
}

}  // namespace soft

template <int kBytes>
void copy_async(void* shared, const void* from, bool inside) {
  static_assert(kBytes == 8 || kBytes == 16);
  if (reinterpret_cast<uintptr_t>(shared) % kBytes != 0 || (inside && reinterpret_cast<uintptr_t>(from) % kBytes != 0))
    ::soft_gpu::fail("cp.async of %d bytes from %p to %p: not aligned", kBytes, from, shared);
  std::memset(shared, 0xff, kBytes);
  soft::async_copies().open.push_back({shared, from, kBytes, inside});
}

inline void copy_async_commit() {
  soft::AsyncCopies& copies = soft::async_copies();
  copies.groups.push_back(std::move(copies.open));
  copies.open.clear();
}

template <int kGroups>
void copy_async_wait() {
  soft::AsyncCopies& copies = soft::async_copies();
  while (copies.groups.size() > kGroups) {
    for (const soft::AsyncCopy& copy : copies.groups.front()) {
      if (copy.inside)
        std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
      else
        std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
    }
    copies.groups.pop_front();
  }
}

}  // namespace tessera::cuda
