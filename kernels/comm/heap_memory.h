// Stands in for shared memory where a rank has no peer that could reach it: nothing can be located,
// and staging buffers are plain memory.
#pragma once

#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "core/runtime/peer_memory.h"

namespace tessera {

class HeapMemory final : public PeerMemory {
 public:
  SharedAddress locate(const void*, int64_t) const override { return {}; }
  std::byte* resolve(int, const SharedAddress&) override { return nullptr; }
  // `bytes` of zeroed memory, 64-byte aligned, for as long as this object lives.
  StagingBuffer create(int64_t bytes) {
    const auto size = static_cast<size_t>(bytes < 64 ? 64 : bytes);
    buffers_.emplace_back(new (std::align_val_t{64}) std::byte[size]);
    std::memset(buffers_.back().get(), 0, size);
    return {buffers_.back().get(), bytes, {}};
  }

 protected:
  StagingBuffer allocate_staging(int64_t bytes) override { return create(bytes); }

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };
  std::vector<std::unique_ptr<std::byte[], Free>> buffers_;
};

}  // namespace tessera
