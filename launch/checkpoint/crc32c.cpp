#include "launch/checkpoint/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace tessera {

uint32_t crc32c(const void* data, size_t size, uint32_t before) {
  constexpr size_t kMost = size_t{1} << 30;  // ISA-L counts in int
  auto* bytes = static_cast<unsigned char*>(const_cast<void*>(data));
  uint32_t state = ~before;
  while (size > 0) {
    const size_t part = std::min(size, kMost);
    state = crc32_iscsi(bytes, static_cast<int>(part), state);
    bytes += part;
    size -= part;
  }
  return ~state;
}

}  // namespace tessera
