// CRC-32C (Castagnoli, RFC 3720 appendix B.4), by ISA-L: the checksum of checkpoints and of
// TensorBoard records. It detects every burst of up to 32 bits and every single flipped bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tessera {

// The checksum of `size` bytes that follow bytes whose checksum is `before`;
// crc32c("123456789") == 0xe3069283.
uint32_t crc32c(const void* data, size_t size, uint32_t before = 0);

inline uint32_t crc32c(std::string_view text) { return crc32c(text.data(), text.size()); }

}  // namespace tessera
