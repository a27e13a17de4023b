#include "partitioner/hlo/notation_scanner.h"

#include <cctype>
#include <charconv>

#include "core/base/error.h"

namespace tessera::hlo {
namespace {

bool is_name_symbol(char symbol) {
  return std::isalnum(static_cast<unsigned char>(symbol)) || symbol == '_';
}

}  // namespace

void NotationScanner::skip_blanks() {
  while (at_ < text_.size()) {
    if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
      ++at_;
    } else if (text_.substr(at_, 2) == "/*") {
      const size_t end = text_.find("*/", at_ + 2);
      at_ = end == std::string_view::npos ? text_.size() : end + 2;
    } else {
      return;
    }
  }
}

bool NotationScanner::at_end() {
  skip_blanks();
  return at_ == text_.size();
}

bool NotationScanner::looks_at(std::string_view symbols) {
  skip_blanks();
  return text_.substr(at_, symbols.size()) == symbols;
}

bool NotationScanner::accept(std::string_view symbols) {
  if (!looks_at(symbols)) return false;
  at_ += symbols.size();
  return true;
}

bool NotationScanner::accept_word(std::string_view word) {
  if (!looks_at(word)) return false;
  const size_t end = at_ + word.size();
  if (end < text_.size() && is_name_symbol(text_[end])) return false;
  at_ = end;
  return true;
}

void NotationScanner::expect(std::string_view symbols) {
  if (!accept(symbols)) fail(cat("'", symbols, "'"));
}

int64_t NotationScanner::integer() {
  skip_blanks();
  int64_t value = 0;
  const char* begin = text_.data() + at_;
  const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
  if (error == std::errc::result_out_of_range) fail("a number below 2^63");
  if (error != std::errc()) fail("a number");
  at_ += static_cast<size_t>(end - begin);
  return value;
}

int64_t NotationScanner::positive() {
  skip_blanks();
  const size_t start = at_;
  const int64_t value = integer();
  if (value >= 1) return value;
  at_ = start;
  fail("a number of at least 1");
}

std::vector<int64_t> NotationScanner::integers(std::string_view close) {
  std::vector<int64_t> list;
  if (accept(close)) return list;
  do list.push_back(integer());
  while (accept(","));
  expect(close);
  return list;
}

std::string NotationScanner::name() {
  skip_blanks();
  std::string result;
  if (at_ < text_.size() && (text_[at_] == '\'' || text_[at_] == '"')) {
    const char quote = text_[at_];
    size_t i = at_ + 1;
    for (; i < text_.size() && text_[i] != quote; ++i) {
      if (text_[i] == '\\' && i + 1 < text_.size()) ++i;
      result += text_[i];
    }
    if (i >= text_.size()) fail("a closing quote");
    if (result.empty()) fail("a name between the quotes");
    at_ = i + 1;
    return result;
  }
  const size_t end = std::min(text_.find_first_of(",=:{}[]<>()? \t\n", at_), text_.size());
  if (end == at_) fail("a name");
  result = text_.substr(at_, end - at_);
  at_ = end;
  return result;
}

std::string_view NotationScanner::word() {
  skip_blanks();
  const size_t start = at_;
  while (at_ < text_.size() && (is_name_symbol(text_[at_]) || text_[at_] == '.' || text_[at_] == '-'))
    ++at_;
  return text_.substr(start, at_ - start);
}

void NotationScanner::skip_braces() {
  expect("{");
  for (int64_t depth = 1; depth > 0; ++at_) {
    if (at_ >= text_.size()) fail("'}'");
    if (text_[at_] == '{') ++depth;
    if (text_[at_] == '}') --depth;
    if (text_[at_] != '"') continue;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_)
      if (text_[at_] == '\\') ++at_;
    if (at_ >= text_.size()) {
      at_ = text_.size();
      fail("a closing quote");
    }
  }
}

void NotationScanner::finish() {
  if (!at_end()) fail("the end");
}

// The whole text where it is short, else the stretch around the place.
std::string NotationScanner::excerpt() const {
  constexpr size_t kAround = 60;
  if (text_.size() <= 2 * kAround) return std::string(text_);
  const size_t from = at_ > kAround ? at_ - kAround : 0;
  return cat(from > 0 ? "..." : "", text_.substr(from, 2 * kAround),
             from + 2 * kAround < text_.size() ? "..." : "");
}

void NotationScanner::fail(std::string_view wanted) {
  throw_user_error(
      what_, " \"", excerpt(), "\": expected ", wanted, " at column ", at_ + 1,
      at_ < text_.size() ? cat(", found '", text_[at_], "'") : ", where the text ends");
}

void NotationScanner::refuse(const std::string& problem) {
  throw_user_error(what_, " \"", excerpt(), "\": ", problem);
}

}  // namespace tessera::hlo
