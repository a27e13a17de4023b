// Bytes as tokens, numbered as in ByT5 (Xue et al. 2022, https://arxiv.org/abs/2105.13626): three
// special ids come first, and byte b is id b + 3. No vocabulary file, no unknown text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

inline constexpr int32_t kPadToken = 0;
inline constexpr int32_t kEndToken = 1;  // ends every document
inline constexpr int32_t kUnknownToken = 2;
inline constexpr int32_t kFirstByteToken = 3;
// 3 special ids + 256 bytes. The model pads its table further (128 by default: 384 rows).
inline constexpr int64_t kByteVocabulary = 259;

// The name that a checkpoint records; a resume with another tokenizer is refused.
inline constexpr std::string_view kByteTokenizerName = "byte";

constexpr int32_t token_of_byte(uint8_t byte) { return kFirstByteToken + byte; }

// One token per byte; no end token is added.
std::vector<int32_t> encode_bytes(std::string_view text);

// The bytes of the tokens. Special ids and ids past the vocabulary stand for no byte and are left
// out, so a sample of a model may be decoded as it is. The result need not be valid UTF-8.
std::string decode_bytes(std::span<const int32_t> tokens);

}  // namespace tessera
