// A cursor over HLO text. Not a list of tokens: what a character means depends on what is being
// read
// (`-` in a name, a number, an arrow), so the parser asks for what it expects.
//
// Every read first passes over blanks and comments (`// ...` and `/* ... */`, as in /*index=5*/).
// Time is linear in the text; brackets nest at most kMaxDepth deep.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/strings.h"
#include "core/ir/attributes.h"

namespace tessera::hlo {

inline constexpr int kMaxDepth = 64;

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  // Passes over blanks and comments; then the offset of the next character.
  size_t position();
  bool at_end();
  char peek();                              // 0 at the end
  char next_raw() const { return raw(0); }  // without passing over anything
  bool accept(char c);
  bool accept(std::string_view token);  // of signs, not of letters
  void expect(char c, std::string_view what);

  // A run of letters, digits and `_ . -` (not `->`); may be empty.
  std::string_view word();
  std::string_view peek_word();
  // [%]identifier, without its %.
  std::string_view name(std::string_view what);
  int64_t integer(std::string_view what);
  // {1,0}: integers in braces.
  Ints integers(std::string_view what);
  double number(std::string_view what);
  // A run of letters, digits and `_ . + - ? >`: numbers of literals, 3x3, b01f_01io->b01f.
  std::string_view run(std::string_view more_characters);
  // "text" with its escapes resolved.
  std::string string(std::string_view what);
  // From an opening bracket to the one that closes it, comments left out.
  std::string balanced(std::string_view what);
  // Whatever stands there up to a comma, a closing bracket or a blank outside of brackets; where
  // `spaced`, a blank before an opening bracket does not end it: mesh['x'=2] {'x'}.
  std::string value(std::string_view what, bool spaced);

  int line_of(size_t position);
  // Throw UserError: "line 3, column 14: ...".
  [[noreturn]] void fail(size_t position, std::string_view message);
  // "... expected `what`, not "found"", at the next character.
  [[noreturn]] void expected(std::string_view what);
  [[noreturn]] void expected(std::string_view what, size_t position);

 private:
  char raw(size_t ahead) const {
    return position_ + ahead < text_.size() ? text_[position_ + ahead] : '\0';
  }
  bool at_comment() const { return raw(0) == '/' && (raw(1) == '/' || raw(1) == '*'); }
  void skip_comment();
  void skip_string();
  // Passes over a bracket and what it holds, which is appended to `out` without its comments.
  void skip_balanced(std::string& out);
  void append_escape(std::string& out);
  std::string excerpt(size_t position) const;

  std::string_view text_;
  size_t position_ = 0;
  size_t line_position_ = 0;  // the last asked for
  int line_ = 1;
};

// A word that can stand without its %.
bool is_plain_name(std::string_view name);
void append_name(std::string& out, std::string_view name);
// "text" with what needs it escaped.
void append_quoted(std::string& out, std::string_view text);

}  // namespace tessera::hlo
