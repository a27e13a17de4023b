// Device memory and pinned host memory. For the runtime's own files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace soft_gpu {

// Null: out of memory.
void* allocate_device(int device, size_t bytes);
// False: no such memory. Checks its guards.
bool release_device(void* pointer);
size_t used_memory(int device);
size_t total_memory();

// While there is one, the device's memory can be read and written by the process.
class MemoryOpen {
 public:
  explicit MemoryOpen(int device);
  ~MemoryOpen();

 private:
  int device_;
};

void check_guards(int device);

// The device that holds the address, or -1.
int device_of_address(const void* pointer);

bool register_host(void* pointer, size_t bytes);  // false: overlaps
bool unregister_host(void* pointer);
bool is_pinned(const void* pointer, size_t bytes);

}  // namespace soft_gpu
