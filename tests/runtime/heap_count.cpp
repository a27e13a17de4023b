#include "tests/runtime/heap_count.h"

#include <cstdlib>
#include <new>

namespace {
thread_local int64_t requests = 0;
}  // namespace

int64_t tessera::testing::heap_requests() { return requests; }

void* operator new(size_t bytes) {
  ++requests;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++requests;
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
