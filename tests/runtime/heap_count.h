// Counts what the calling thread asks of the heap; the counting operator new stands in
// heap_count.cpp.
#pragma once

#include <cstdint>

namespace tessera::testing {
int64_t heap_requests();
}  // namespace tessera::testing
