// Where the bytes of device buffers lie on the host while collectives work on them.
//
// Each symmetric arena of the device has a shadow: as many bytes of the inner world's symmetric memory, pinned. A
// buffer's place in the shadow is its place in the arena, so that nothing has to be allocated or agreed on: the
// memory plan keeps the buffers of collectives in flight apart, and so are their shadows. The inner collective works
// on the shadows where they lie. Buffers elsewhere are staged in pinned buffers that are kept for the next call
// (and which the inner world stages once more).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/runtime/communicator.h"

namespace tessera::cuda {

class StagingMemory {
 public:
  StagingMemory() = default;
  ~StagingMemory();
  StagingMemory(const StagingMemory&) = delete;

  // Collective over `inner`. `device` is an arena of `bytes`.
  void add_shadow(World& inner, const std::byte* device, int64_t bytes);
  // The shadow of device memory, or null.
  std::byte* shadow(const void* device, int64_t bytes) const;

  struct Buffer {
    std::byte* data = nullptr;
    int64_t bytes = 0;
  };
  Buffer acquire(int64_t bytes);
  void release(Buffer buffer) { free_.push_back(buffer); }

 private:
  struct Shadow {
    const std::byte* device;
    std::byte* host;
    int64_t bytes;
    bool is_pinned;
  };
  std::vector<Shadow> shadows_;
  std::vector<std::byte*> owned_;
  std::vector<Buffer> free_;
};

}  // namespace tessera::cuda
