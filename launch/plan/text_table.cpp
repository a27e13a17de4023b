#include "launch/plan/text_table.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace tessera {

TextTable::TextTable(std::vector<std::string> header, std::vector<bool> right) : right_(std::move(right)) {
  add(std::move(header));
}

void TextTable::add(std::vector<std::string> row) {
  rows_.push_back(std::move(row));
  notes_.emplace_back();
}

void TextTable::add_note(std::string text) { notes_.back().push_back(std::move(text)); }

std::string TextTable::print() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (size_t c = 0; c < rows_[r].size(); ++c) {
      const std::string gap(widths[c] - rows_[r][c].size(), ' ');
      const bool right = c < right_.size() && right_[c];
      line += "  " + (right ? gap + rows_[r][c] : rows_[r][c] + gap);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
    for (const std::string& note : notes_[r]) text += note + "\n";
  }
  return text;
}

std::string human_seconds(double seconds) {
  char text[32];
  if (seconds >= 0.1 || seconds == 0)
    std::snprintf(text, sizeof text, "%.3g s", seconds);
  else if (seconds >= 1e-4)
    std::snprintf(text, sizeof text, "%.3g ms", seconds * 1e3);
  else
    std::snprintf(text, sizeof text, "%.3g us", seconds * 1e6);
  return text;
}

std::string grouped_digits(int64_t number) {
  std::string digits = std::to_string(number);
  for (auto place = static_cast<int>(digits.size()) - 3; place > (number < 0 ? 1 : 0); place -= 3)
    digits.insert(static_cast<size_t>(place), ",");
  return digits;
}

std::string without_numbers(const std::string& text) {
  auto is_digit = [&](size_t i) { return i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])) != 0; };
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    result += text[i];
    const bool numbered = text[i] == '%' || (text[i] == '.' && i >= 5 && text.compare(i - 5, 5, "block") == 0);
    if (!numbered || !is_digit(i + 1)) continue;
    result += '*';
    while (is_digit(i + 1)) ++i;
  }
  return result;
}

}  // namespace tessera
