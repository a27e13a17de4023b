// Small string helpers used by messages, printers and parsers.
#pragma once

#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Concatenates anything that prints with operator<<.
template <typename... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  static_cast<void>((out << ... << parts));
  return std::move(out).str();
}

// "a, b, c". Items print with operator<<.
template <typename Range>
std::string join(const Range& items, std::string_view separator = ", ") {
  std::ostringstream out;
  bool first = true;
  for (const auto& item : items) {
    if (!first) out << separator;
    first = false;
    out << item;
  }
  return std::move(out).str();
}

std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);

// Levenshtein distance in bytes.
int edit_distance(std::string_view a, std::string_view b);

// The candidate nearest to `word`, or "" when none is within a third of its length (two edits for
// words of four to six letters, one for shorter ones).
std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

// 1536 -> "1.50 KiB".
std::string human_bytes(double bytes);
// 1234567 -> "1.23 M".
std::string human_count(double count);

// The shortest decimal text that reads back as the same double ("0.1", "1e-08", "inf").
std::string print_double(double value);

}  // namespace tessera
