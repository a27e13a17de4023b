#include "kernels/cuda/comm/staging_memory.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "core/base/log.h"
#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t round_up(int64_t value) { return (value + kPage - 1) / kPage * kPage; }

}  // namespace

StagingMemory::~StagingMemory() {
  for (const Shadow& shadow : shadows_)
    if (shadow.is_pinned) cudaHostUnregister(shadow.host);
  for (std::byte* memory : owned_) cudaFreeHost(memory);
}

void StagingMemory::add_shadow(World& inner, const std::byte* device, int64_t bytes) {
  // Whole pages: two pieces of memory that share one cannot both be pinned.
  std::byte* memory = inner.allocate_symmetric(round_up(bytes) + kPage);
  const auto address = static_cast<int64_t>(reinterpret_cast<intptr_t>(memory));
  std::byte* host = memory + (round_up(address) - address);
  const cudaError_t error = cudaHostRegister(host, static_cast<size_t>(round_up(bytes)), cudaHostRegisterPortable);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    log_warning("warning: rank ", inner.rank(), ": the host memory that collectives are staged in cannot be pinned (",
                cudaGetErrorString(error), "); copies will be slower. `ulimit -l` may forbid it");
  }
  shadows_.push_back({device, host, bytes, error == cudaSuccess});
}

std::byte* StagingMemory::shadow(const void* device, int64_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(device);
  for (const Shadow& shadow : shadows_)
    if (begin >= shadow.device && begin + bytes <= shadow.device + shadow.bytes)
      return shadow.host + (begin - shadow.device);
  return nullptr;
}

StagingMemory::Buffer StagingMemory::acquire(int64_t bytes) {
  auto best = free_.end();
  for (auto buffer = free_.begin(); buffer != free_.end(); ++buffer)
    if (buffer->bytes >= bytes && (best == free_.end() || buffer->bytes < best->bytes)) best = buffer;
  if (best != free_.end()) {
    const Buffer buffer = *best;
    free_.erase(best);
    return buffer;
  }
  void* memory = nullptr;
  const int64_t size = round_up(std::max<int64_t>(bytes, 1));
  check(cudaHostAlloc(&memory, static_cast<size_t>(size), cudaHostAllocPortable), "pinned host memory");
  owned_.push_back(static_cast<std::byte*>(memory));
  return {owned_.back(), size};
}

}  // namespace tessera::cuda
