// CUDA's runtime: memory and copies.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "tests/soft_gpu/engine.h"
#include "tests/soft_gpu/memory.h"

using namespace soft_gpu;

namespace {

struct Side {
  const void* pointer;
  size_t pitch;
  bool on_device = false, is_pinned = false;
};

size_t span_of(const Side& side, size_t width, size_t height) {
  return height == 0 || width == 0 ? 0 : side.pitch * (height - 1) + width;
}

// Where the memory is; false where it is none that a copy of this kind may use.
bool place(Side& side, size_t span, bool wants_device, bool wants_host) {
  side.on_device = is_device_memory(side.pointer, span);
  // Out of bounds of a piece of device memory.
  if (!side.on_device && device_of_address(side.pointer) >= 0) return false;
  if (side.on_device ? wants_host : wants_device) return false;
  side.is_pinned = !side.on_device && is_pinned(side.pointer, span);
  return true;
}

void copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height) {
  if (to_pitch == width && from_pitch == width) {
    std::memmove(to, from, width * height);
    return;
  }
  for (size_t row = 0; row < height; ++row)
    std::memmove(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
}

// A stretch of device memory of another device is opened by the copy itself.
struct OpenBoth {
  MemoryOpen first, second;
};

bool overlap(const Side& a, size_t a_span, const Side& b, size_t b_span) {
  const auto x = reinterpret_cast<uintptr_t>(a.pointer), y = reinterpret_cast<uintptr_t>(b.pointer);
  return x < y + b_span && y < x + a_span;
}

cudaError_t copy(Side to, Side from, size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  const size_t to_span = span_of(to, width, height), from_span = span_of(from, width, height);
  if (to_span == 0) return cudaSuccess;
  if (to.pitch < width || from.pitch < width) return remember(cudaErrorInvalidPitchValue);
  const bool any = kind == cudaMemcpyDefault;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (!place(to, to_span, !any && to_device, !any && !to_device) ||
      !place(from, from_span, !any && from_device, !any && !from_device))
    return remember(cudaErrorInvalidValue);
  if (overlap(to, to_span, from, from_span)) fail("cudaMemcpy: the two sides overlap");
  const bool staged = !from.on_device && !from.is_pinned, waits = !to.on_device && !to.is_pinned;
  std::unique_lock lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (!real) return remember(cudaErrorInvalidResourceHandle);
  // Memory that is not pinned makes the copy wait, which a capture cannot.
  if (real->capture && (staged || waits)) {
    real->capture->invalid = true;
    return remember(cudaErrorStreamCaptureUnsupported);
  }
  Work work{"a copy", nullptr};
  void* const target = const_cast<void*>(to.pointer);
  const int first = to.on_device ? device_of_address(to.pointer) : real->device;
  const int second = from.on_device ? device_of_address(from.pointer) : real->device;
  if (staged) {
    // Taken now: the caller may change it when this returns.
    auto bytes = std::make_shared<std::vector<char>>(width * height);
    ::copy_rows(bytes->data(), width, from.pointer, from.pitch, width, height);
    work.step = [=] {
      const OpenBoth open{MemoryOpen(first), MemoryOpen(second)};
      ::copy_rows(target, to.pitch, bytes->data(), width, width, height);
      return true;
    };
  } else {
    work.step = [=] {
      const OpenBoth open{MemoryOpen(first), MemoryOpen(second)};
      ::copy_rows(target, to.pitch, from.pointer, from.pitch, width, height);
      return true;
    };
  }
  const cudaError_t error = submit(real, std::move(work));
  if (error != cudaSuccess || !waits) return remember(error);
  const After after{real->clock, real->submitted};
  const int device = real->device;
  lock.unlock();
  run_until(device, [&] { return after.reached(); });
  return cudaSuccess;
}

cudaError_t fill(void* to, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  const size_t span = span_of({to, pitch}, width, height);
  if (span == 0) return cudaSuccess;
  if (pitch < width) return remember(cudaErrorInvalidPitchValue);
  if (!is_device_memory(to, span) && !is_pinned(to, span)) return remember(cudaErrorInvalidValue);
  return enqueue(stream, "memset", [=] {
    for (size_t row = 0; row < height; ++row) std::memset(static_cast<char*>(to) + row * pitch, value, width);
  });
}

cudaError_t wait_for_default() { return cudaStreamSynchronize(nullptr); }

}  // namespace

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  {
    const std::lock_guard lock(queue_mutex());
    if (!unsafe_call_allowed()) return remember(cudaErrorStreamCaptureUnsupported);
  }
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = allocate_device(current_device(), bytes);
  return remember(*pointer ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* pointer) {
  {
    const std::lock_guard lock(queue_mutex());
    if (!unsafe_call_allowed()) return remember(cudaErrorStreamCaptureUnsupported);
  }
  if (!pointer) return cudaSuccess;
  const int device = device_of_address(pointer);
  if (device < 0) return remember(cudaErrorInvalidValue);
  run_all(device);
  const std::lock_guard running(device_at(device).running);
  return remember(release_device(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes, unsigned) {
  {
    const std::lock_guard lock(queue_mutex());
    if (!unsafe_call_allowed()) return remember(cudaErrorStreamCaptureUnsupported);
  }
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  void* const memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!memory) return remember(cudaErrorMemoryAllocation);
  std::memset(memory, 0xff, bytes);
  if (!register_host(memory, bytes)) fail("memory that was freed is still registered as pinned");
  *pointer = memory;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  return cudaMallocHost(pointer, bytes, flags);
}

cudaError_t cudaFreeHost(void* pointer) {
  if (!pointer) return cudaSuccess;
  {
    const std::lock_guard lock(queue_mutex());
    if (!unsafe_call_allowed()) return remember(cudaErrorStreamCaptureUnsupported);
  }
  for (int d = 0; d < device_count(); ++d) run_all(d);
  if (!unregister_host(pointer)) return remember(cudaErrorInvalidValue);
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  if (!pointer || bytes == 0) return remember(cudaErrorInvalidValue);
  return remember(register_host(pointer, bytes) ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered);
}
cudaError_t cudaHostUnregister(void* pointer) {
  for (int d = 0; d < device_count(); ++d) run_all(d);
  return remember(unregister_host(pointer) ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  if (!is_pinned(host, 1)) return remember(cudaErrorInvalidValue);
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  *attributes = {};
  attributes->device = device_of_address(pointer);
  if (attributes->device >= 0) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->devicePointer = const_cast<void*>(pointer);
  } else if (is_pinned(pointer, 1)) {
    attributes->type = cudaMemoryTypeHost;
    attributes->device = current_device();
    attributes->devicePointer = attributes->hostPointer = const_cast<void*>(pointer);
  } else {
    attributes->device = -1;
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({to, bytes}, {from, bytes}, bytes, 1, kind, stream);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, size_t bytes,
                                cudaStream_t stream) {
  if (!is_device_memory(to, bytes, to_device) || !is_device_memory(from, bytes, from_device))
    return remember(cudaErrorInvalidValue);
  return copy({to, bytes}, {from, bytes}, bytes, 1, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({to, to_pitch}, {from, from_pitch}, width, height, kind, stream);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error != cudaSuccess ? error : wait_for_default();
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return fill(to, bytes, value, bytes, 1, stream);
}
cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  return fill(to, pitch, value, width, height, stream);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) { return fill(to, bytes, value, bytes, 1, nullptr); }
