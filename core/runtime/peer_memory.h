// Memory that the other ranks of a host can read and write, between threads and between processes.
//
// An address is a (segment, offset) pair that means the same bytes on every rank although each maps
// them elsewhere. Operands that have one are used where they lie; others are copied into a staging
// buffer, which has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera {

struct SharedAddress {
  int64_t segment = -1;  // -1: none
  int64_t offset = 0;
};

struct StagingBuffer {
  std::byte* data = nullptr;
  int64_t bytes = 0;
  SharedAddress address;
};

// One rank's view. Used by that rank's thread only.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;

  // Where the peers find [data, data + bytes); segment -1 where they cannot.
  virtual SharedAddress locate(const void* data, int64_t bytes) const = 0;
  // An address that `world_rank` published, as a pointer here. UserError where it cannot be mapped.
  virtual std::byte* resolve(int world_rank, const SharedAddress& address) = 0;

  // A staging buffer of at least `bytes`, 64-byte aligned. Released buffers are used again.
  StagingBuffer acquire(int64_t bytes);
  void release(const StagingBuffer& buffer) { free_.push_back(buffer); }

 protected:
  virtual StagingBuffer allocate_staging(int64_t bytes) = 0;

 private:
  std::vector<StagingBuffer> free_;
};

}  // namespace tessera
