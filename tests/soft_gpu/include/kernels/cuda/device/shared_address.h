// Stands in for kernels/cuda/device/shared_address.h: of dynamic shared memory only, which begins behind the first KiB,
// as on sm_90.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

namespace soft {

inline constexpr uint32_t kFirstSharedByte = 1024;

// What lies at `address`, of which `bytes` are wanted.
inline unsigned char* shared_pointer(uint32_t address, uint32_t bytes, const char* by) {
  const ::soft_gpu::BlockView& block = ::soft_gpu::current_block();
  if (address < kFirstSharedByte || address - kFirstSharedByte + uint64_t{bytes} > block.dynamic_shared_bytes)
    ::soft_gpu::fail("%s: %u bytes at 0x%x are not within the %llu bytes of dynamic shared memory", by, bytes, address,
                     static_cast<unsigned long long>(block.dynamic_shared_bytes));
  return block.dynamic_shared + (address - kFirstSharedByte);
}

// Where the 16-byte pieces of rows of `span` bytes (16: as they are, 32, 64, 128) are permuted: eight rows' worth of
// 128 bytes are a pattern, and the bits from 7 on of the address are added to those from 4 on, without carry.
inline uint32_t swizzled(uint32_t address, uint32_t span) {
  return address ^ ((address >> 7 & (span / 16 - 1)) << 4);
}

}  // namespace soft

inline uint32_t shared_address(const void* pointer) {
  const ::soft_gpu::BlockView& block = ::soft_gpu::current_block();
  const std::ptrdiff_t at = static_cast<const unsigned char*>(pointer) - block.dynamic_shared;
  if (at < 0 || static_cast<uint64_t>(at) > block.dynamic_shared_bytes)
    ::soft_gpu::fail("%p is not in dynamic shared memory", pointer);
  return soft::kFirstSharedByte + static_cast<uint32_t>(at);
}

}  // namespace tessera::cuda
