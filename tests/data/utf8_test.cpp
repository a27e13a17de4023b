#include "launch/data/utf8.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

namespace tessera {
namespace {

std::optional<int64_t> check(const std::string& text) {
  return find_invalid_utf8({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// The encoding of a code point, by the definition and without any check.
std::string encode(uint32_t c) {
  const auto tail = [](uint32_t bits) { return static_cast<char>(0x80 | (bits & 0x3f)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), tail(c)};
  if (c < 0x10000) return {static_cast<char>(0xe0 | c >> 12), tail(c >> 6), tail(c)};
  return {static_cast<char>(0xf0 | c >> 18), tail(c >> 12), tail(c >> 6), tail(c)};
}

TEST(Utf8, EveryCodePoint) {
  for (uint32_t c = 0; c < 0x120000; ++c) {
    const bool surrogate = c >= 0xd800 && c <= 0xdfff;
    ASSERT_EQ(check(encode(c)).has_value(), surrogate || c > 0x10ffff) << c;
  }
}

TEST(Utf8, IllFormed) {
  for (const char* bad :
       {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xff", "\xfe", "\xc3",
        "\xe2\x82", "\xf0\x9f\x98", "\xc3(", "\xf5\x80\x80\x80"})
    for (const size_t before : {0, 1, 7, 8, 9, 16})
      EXPECT_EQ(check(std::string(before, 'a') + bad + "xyz"), before) << bad;
}

RC_GTEST_PROP(Utf8Property, CutTextIsRefusedAtTheCutCharacter, ()) {
  std::string text;
  size_t last = 0;
  for (const uint32_t c : *rc::gen::nonEmpty(rc::gen::container<std::vector<uint32_t>>(
           rc::gen::oneOf(rc::gen::inRange(0u, 0x80u), rc::gen::inRange(0x80u, 0xd800u),
                          rc::gen::inRange(0xe000u, 0x110000u))))) {
    last = text.size();
    text += encode(c);
  }
  RC_ASSERT(!check(text));
  if (text.size() - last > 1) {
    text.pop_back();
    RC_ASSERT(check(text) == static_cast<int64_t>(last));
  }
}

}  // namespace
}  // namespace tessera
