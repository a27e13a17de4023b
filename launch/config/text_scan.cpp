#include "launch/config/text_scan.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "core/base/strings.h"

namespace tessera::config {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool is_value(char c) { return is_word(c) || c == '.' || c == '+' || c == '-' || c == '/'; }
bool is_blank(char c) { return std::isspace(static_cast<unsigned char>(c)); }

// The end of the quoted string that starts at `begin`.
size_t end_of_string(std::string_view text, size_t begin) {
  size_t i = begin + 1;
  while (i < text.size() && text[i] != text[begin] && text[i] != '\n') i += text[i] == '\\' ? 2 : 1;
  return std::min(i + 1, text.size());
}

size_t skip_blanks_back(std::string_view text, size_t end) {
  while (end > 0 && is_blank(text[end - 1])) --end;
  return end;
}

TextRange word_ending_at(std::string_view text, size_t end) {
  size_t begin = end;
  while (begin > 0 && is_word(text[begin - 1])) --begin;
  return {begin, end};
}

void blank(std::string& text, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
}

}  // namespace

size_t offset_of(std::string_view text, int line, int column) {
  size_t offset = 0;
  for (int l = 0; l < line; ++l) {
    offset = text.find('\n', offset);
    if (offset == std::string_view::npos) return text.size();
    ++offset;
  }
  for (int c = 0; c < column && offset < text.size(); ++offset) {
    c = text[offset] == '\t' ? (c / 8 + 1) * 8 : c + 1;
  }
  return offset;
}

int line_of(std::string_view text, size_t offset) {
  return 1 + static_cast<int>(
                 std::count(text.begin(), text.begin() + std::min(offset, text.size()), '\n'));
}

std::string enclosing_path(std::string_view text, size_t offset) {
  std::vector<std::string> open;
  std::string last_word;
  for (size_t i = 0; i < std::min(offset, text.size());) {
    const char c = text[i];
    if (c == '#') {
      i = std::min(text.find('\n', i), text.size());
    } else if (c == '"' || c == '\'') {
      i = end_of_string(text, i);
    } else if (is_word(c)) {
      const size_t begin = i;
      while (i < text.size() && is_word(text[i])) ++i;
      last_word = text.substr(begin, i - begin);
    } else {
      if (c == '{' || c == '<') {
        open.push_back(last_word);
      } else if ((c == '}' || c == '>') && !open.empty()) {
        last_word = open.back();  // for the next element of a list: mesh [{...}, {...}]
        open.pop_back();
      }
      ++i;
    }
  }
  return join(open, ".");
}

TextRange value_at(std::string_view text, size_t offset) {
  if (offset >= text.size()) return {offset, offset};
  if (text[offset] == '"' || text[offset] == '\'') return {offset, end_of_string(text, offset)};
  size_t end = offset;
  while (end < text.size() && is_value(text[end])) ++end;
  return {offset, end};
}

ValueOwner owner_of_value(std::string_view text, size_t offset) {
  size_t end = skip_blanks_back(text, std::min(offset, text.size()));
  while (end > 0 && (text[end - 1] == '-' || text[end - 1] == '+')) {  // the sign is its own token
    end = skip_blanks_back(text, end - 1);
  }
  bool in_list = false;
  if (end > 0 && (text[end - 1] == ',' || text[end - 1] == '[')) {
    in_list = true;
    while (end > 0 && text[end - 1] != '[') {
      if (text[end - 1] == '{' || text[end - 1] == '}') return {};
      --end;
    }
    if (end == 0) return {};
    end = skip_blanks_back(text, end - 1);
  }
  if (end > 0 && text[end - 1] == ':') end = skip_blanks_back(text, end - 1);
  return {word_ending_at(text, end), in_list};
}

TextRange word_before(std::string_view text, size_t offset) {
  size_t end = skip_blanks_back(text, std::min(offset, text.size()));
  if (end > 0 && text[end - 1] == ':') end = skip_blanks_back(text, end - 1);
  return word_ending_at(text, end);
}

std::string without_value(std::string text, TextRange value, const ValueOwner& owner) {
  if (!owner.in_list) {
    blank(text, owner.name.begin, value.end);
    return text;
  }
  blank(text, value.begin, value.end);
  size_t next = value.end;
  while (next < text.size() && is_blank(text[next])) ++next;
  if (next < text.size() && text[next] == ',') {
    text[next] = ' ';
    return text;
  }
  const size_t before = skip_blanks_back(text, value.begin);
  if (before > 0 && text[before - 1] == ',') text[before - 1] = ' ';
  return text;
}

}  // namespace tessera::config
