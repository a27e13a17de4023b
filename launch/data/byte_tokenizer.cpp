#include "launch/data/byte_tokenizer.h"

namespace tessera {

std::vector<int32_t> encode_bytes(std::string_view text) {
  std::vector<int32_t> tokens;
  tokens.reserve(text.size());
  for (const char byte : text) tokens.push_back(token_of_byte(static_cast<uint8_t>(byte)));
  return tokens;
}

std::string decode_bytes(std::span<const int32_t> tokens) {
  std::string text;
  text.reserve(tokens.size());
  for (const int32_t token : tokens)
    if (token >= kFirstByteToken && token < kByteVocabulary)
      text.push_back(static_cast<char>(token - kFirstByteToken));
  return text;
}

}  // namespace tessera
