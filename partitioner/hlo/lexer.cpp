#include "partitioner/hlo/lexer.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/base/error.h"

namespace tessera::hlo {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_word(char c) { return is_alpha(c) || is_digit(c) || c == '.' || c == '-'; }

char closer_of(char open) {
  switch (open) {
    case '{':
      return '}';
    case '(':
      return ')';
    case '[':
      return ']';
    default:
      return '\0';
  }
}
bool is_closer(char c) { return c == '}' || c == ')' || c == ']'; }

}  // namespace

size_t Lexer::position() {
  while (position_ < text_.size()) {
    if (is_space(text_[position_]))
      ++position_;
    else if (at_comment())
      skip_comment();
    else
      break;
  }
  return position_;
}

bool Lexer::at_end() { return position() == text_.size(); }

char Lexer::peek() {
  position();
  return raw(0);
}

bool Lexer::accept(char c) {
  if (at_end() || text_[position_] != c) return false;
  ++position_;
  return true;
}

bool Lexer::accept(std::string_view token) {
  position();
  if (text_.substr(position_, token.size()) != token) return false;
  position_ += token.size();
  return true;
}

void Lexer::expect(char c, std::string_view what) {
  if (!accept(c)) expected(cat("\"", c, "\" ", what));
}

std::string_view Lexer::word() {
  const size_t start = position();
  while (is_word(raw(0)) && !(raw(0) == '-' && raw(1) == '>')) ++position_;
  return text_.substr(start, position_ - start);
}

std::string_view Lexer::peek_word() {
  const size_t start = position();
  const std::string_view result = word();
  position_ = start;
  return result;
}

std::string_view Lexer::name(std::string_view what) {
  const size_t start = position();
  const bool percent = accept('%');
  if (percent ? !is_word(raw(0)) : !is_alpha(raw(0))) expected(what, start);
  const std::string_view result = word();
  if (result.empty()) expected(what, start);
  return result;
}

int64_t Lexer::integer(std::string_view what) {
  const size_t start = position();
  size_t end = start + (raw(0) == '-' ? 1 : 0);
  while (end < text_.size() && is_digit(text_[end])) ++end;
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(text_.data() + start, text_.data() + end, value);
  if (error == std::errc::result_out_of_range)
    fail(start,
         cat(text_.substr(start, std::min<size_t>(end - start, 40)), " does not fit 64 bits"));
  if (error != std::errc()) expected(what);
  position_ = end;
  return value;
}

Ints Lexer::integers(std::string_view what) {
  Ints result;
  expect('{', cat("before ", what));
  if (accept('}')) return result;
  do result.push_back(integer(what));
  while (accept(','));
  if (!accept('}')) expected(cat("\",\" or \"}\" after ", what));
  return result;
}

double Lexer::number(std::string_view what) {
  const size_t start = position();
  const std::string_view text = run(".+-");
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) fail(start, cat(text, " does not fit a double"));
  if (text.empty() || error != std::errc() || stop != text.data() + text.size())
    expected(what, start);
  return value;
}

std::string_view Lexer::run(std::string_view more_characters) {
  const size_t start = position();
  while (position_ < text_.size() && (is_alpha(raw(0)) || is_digit(raw(0)) ||
                                      more_characters.find(raw(0)) != std::string_view::npos))
    ++position_;
  return text_.substr(start, position_ - start);
}

void Lexer::append_escape(std::string& out) {
  const size_t start = position_ - 1;  // the backslash
  const char c = raw(0);
  ++position_;
  static constexpr std::string_view kLetters = "abfnrtv\\?'\"";
  static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\?'\"";
  if (const size_t at = kLetters.find(c); at != std::string_view::npos && c != '\0') {
    out += kMeanings[at];
    return;
  }
  const int base = c == 'x' ? 16 : 8;
  const size_t digits = c == 'x' ? position_ : position_ - 1;
  unsigned value = 0;
  const size_t limit = std::min(text_.size(), digits + (c == 'x' ? 2 : 3));
  const auto [stop, error] =
      std::from_chars(text_.data() + std::min(digits, limit), text_.data() + limit, value, base);
  if (error != std::errc() || value > 255)
    fail(start, "unknown escape in a string; known are \\\" \\\\ \\n \\t \\001 \\x01 and the like");
  position_ = static_cast<size_t>(stop - text_.data());
  out += static_cast<char>(value);
}

std::string Lexer::string(std::string_view what) {
  const size_t start = position();
  if (!accept('"')) expected(what);
  std::string result;
  while (position_ < text_.size()) {
    const size_t plain = text_.find_first_of("\"\\", position_);
    if (plain == std::string_view::npos) break;
    result += text_.substr(position_, plain - position_);
    position_ = plain + 1;
    if (text_[plain] == '"') return result;
    append_escape(result);
  }
  fail(start, "this string is not closed by \"");
}

void Lexer::skip_comment() {
  const size_t start = position_;
  const bool to_line_end = raw(1) == '/';
  const size_t end = to_line_end ? text_.find('\n', position_) : text_.find("*/", position_ + 2);
  if (end == std::string_view::npos && !to_line_end)
    fail(start, "this comment is not closed by */");
  position_ = end == std::string_view::npos ? text_.size() : end + (to_line_end ? 0 : 2);
}

void Lexer::skip_string() {
  const size_t start = position_++;
  while (position_ < text_.size()) {
    const size_t at = text_.find_first_of("\"\\", position_);
    if (at == std::string_view::npos) break;
    position_ = at + 1;
    if (text_[at] == '"') return;
    ++position_;
  }
  fail(start, "this string is not closed by \"");
}

void Lexer::skip_balanced(std::string& out) {
  const size_t start = position_;
  std::string closers;
  size_t copied = position_;
  do {
    if (position_ >= text_.size())
      fail(start, cat("\"", text_[start], "\" is not closed by \"", closer_of(text_[start]), "\""));
    const char c = text_[position_];
    if (c == '"') {
      skip_string();
    } else if (at_comment()) {
      out += text_.substr(copied, position_ - copied);
      skip_comment();
      if (std::string_view(" \n{[(,").find(out.back()) == std::string_view::npos) out += ' ';
      if (raw(0) == ' ' && out.back() == ' ') ++position_;
      copied = position_;
    } else {
      if (const char closer = closer_of(c)) {
        if (closers.size() == kMaxDepth)
          fail(position_, cat("brackets nest deeper than ", kMaxDepth));
        closers.push_back(closer);
      } else if (is_closer(c)) {
        if (closers.back() != c)
          expected(cat("\"", closers.back(), "\" to close the bracket opened before"), position_);
        closers.pop_back();
      }
      ++position_;
    }
  } while (!closers.empty());
  out += text_.substr(copied, position_ - copied);
}

std::string Lexer::balanced(std::string_view what) {
  if (closer_of(peek()) == '\0') expected(what);
  std::string result;
  skip_balanced(result);
  return result;
}

std::string Lexer::value(std::string_view what, bool spaced) {
  position();
  std::string result;
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (closer_of(c)) {
      skip_balanced(result);
    } else if (c == '"') {
      const size_t start = position_;
      skip_string();
      result += text_.substr(start, position_ - start);
    } else if (is_space(c) || at_comment()) {
      if (!spaced || !closer_of(peek())) break;
      result += ' ';
    } else if (c == ',' || is_closer(c)) {
      break;
    } else {
      result += c;
      ++position_;
    }
  }
  if (result.empty()) expected(what);
  return result;
}

int Lexer::line_of(size_t position) {
  if (position < line_position_) {
    line_position_ = 0;
    line_ = 1;
  }
  const auto from = text_.begin() + static_cast<std::ptrdiff_t>(line_position_);
  const auto to = text_.begin() + static_cast<std::ptrdiff_t>(position);
  line_ += static_cast<int>(std::count(from, to, '\n'));
  line_position_ = position;
  return line_;
}

void Lexer::fail(size_t position, std::string_view message) {
  const size_t before = position == 0 ? std::string_view::npos : text_.rfind('\n', position - 1);
  const size_t column = before == std::string_view::npos ? position + 1 : position - before;
  throw_user_error("line ", line_of(position), ", column ", column, ": ", message);
}

std::string Lexer::excerpt(size_t position) const {
  if (position >= text_.size()) return "the end of the text";
  size_t end = position + 1;
  if (is_word(text_[position]) || text_[position] == '%')
    while (end < text_.size() && is_word(text_[end]) && end - position < 40) ++end;
  std::string result = "\"";
  for (const char c : text_.substr(position, end - position))
    result += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return result + "\"";
}

void Lexer::expected(std::string_view what) { expected(what, position()); }

void Lexer::expected(std::string_view what, size_t position) {
  fail(position, cat("expected ", what, ", not ", excerpt(position)));
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && is_alpha(name[0]) && name != "ROOT" && name != "ENTRY";
}

void append_name(std::string& out, std::string_view name) {
  if (!is_plain_name(name)) out += '%';
  out += name;
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      for (const int shift : {6, 3, 0}) {
        if (shift == 6) out += '\\';
        out += static_cast<char>('0' + ((byte >> shift) & 7));
      }
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace tessera::hlo
