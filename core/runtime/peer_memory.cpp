#include "core/runtime/peer_memory.h"

#include <bit>

namespace tessera {

StagingBuffer PeerMemory::acquire(int64_t bytes) {
  // Powers of two, so that a released buffer fits the next request of about its size: after the
  // first training step nothing is allocated.
  const auto size =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes < 4096 ? 4096 : bytes)));
  for (size_t i = 0; i < free_.size(); ++i) {
    if (free_[i].bytes != size) continue;
    const StagingBuffer found = free_[i];
    free_[i] = free_.back();
    free_.pop_back();
    return found;
  }
  return allocate_staging(size);
}

}  // namespace tessera
