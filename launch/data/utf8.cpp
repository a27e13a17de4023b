#include "launch/data/utf8.h"

#include <cstring>

namespace tessera {
namespace {

// The length of the well-formed sequence at the start of `text`, which is not empty; 0 if none is.
// The ranges are table 3-7 of the Unicode standard.
int sequence_length(std::span<const uint8_t> text) {
  const uint8_t lead = text[0];
  if (lead < 0x80) return 1;
  int length;
  uint8_t low = 0x80, high = 0xbf;  // the range of the second byte
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;   // overlong
    if (lead == 0xed) high = 0x9f;  // surrogates
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;   // overlong
    if (lead == 0xf4) high = 0x8f;  // above U+10FFFF
  } else {
    return 0;
  }
  if (text.size() < static_cast<size_t>(length) || text[1] < low || text[1] > high) return 0;
  for (int i = 2; i < length; ++i)
    if (text[i] < 0x80 || text[i] > 0xbf) return 0;
  return length;
}

}  // namespace

std::optional<int64_t> find_invalid_utf8(std::span<const uint8_t> text) {
  size_t at = 0;
  while (at < text.size()) {
    // Prose is mostly ASCII: eight bytes at a time while no high bit is set.
    uint64_t word;
    while (at + sizeof word <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof word);
      if (word & 0x8080808080808080u) break;
      at += sizeof word;
    }
    if (at == text.size()) break;
    const int length = sequence_length(text.subspan(at));
    if (length == 0) return static_cast<int64_t>(at);
    at += static_cast<size_t>(length);
  }
  return std::nullopt;
}

}  // namespace tessera
