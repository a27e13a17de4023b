// Where buffers live and kernels run. The CPU backend is core's own; CUDA is a plugin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/runtime/kernel_table.h"

namespace tessera {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const std::string& name() const = 0;
  virtual std::byte* allocate(int64_t bytes) = 0;  // 64-byte aligned; UserError when out of memory
  virtual void release(std::byte* memory) noexcept = 0;
  virtual void copy_to_device(void* device, const void* host, int64_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, int64_t bytes) = 0;
  virtual void zero(void* device, int64_t bytes) = 0;
  virtual const KernelTable& kernels() const = 0;
};

// Host memory, with the kernels of `table`.
std::unique_ptr<Backend> create_cpu_backend(KernelTable table);

}  // namespace tessera
