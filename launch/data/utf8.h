// Validation of UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace tessera {

// The offset of the first byte of the first ill-formed sequence; nullopt where all is valid.
std::optional<int64_t> find_invalid_utf8(std::span<const uint8_t> text);

}  // namespace tessera
