// Reads the small notations of shardings, meshes and replica groups, symbol by symbol. All errors
// are UserErrors that show the text, the column and what was expected there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::hlo {

class NotationScanner {
 public:
  // `what` names the notation in messages: "sharding". The text must outlive the scanner.
  NotationScanner(std::string_view text, std::string_view what) : text_(text), what_(what) {}

  // All skip blanks and comments first.
  bool at_end();
  bool looks_at(std::string_view symbols);  // these characters come next
  bool accept(std::string_view symbols);
  bool accept_word(std::string_view word);  // and no letter, digit or underscore after it
  void expect(std::string_view symbols);

  int64_t integer();                                      // may be negative
  int64_t positive();                                     // at least 1
  std::vector<int64_t> integers(std::string_view close);  // up to and with `close`; may be empty
  // 'a', "a" (with \-escapes), or a bare name, which ends before any of `,=:{}[]<>()?` or a blank.
  std::string name();
  std::string_view word();  // letters, digits, underscores, dots, dashes; may be empty
  void skip_braces();       // {...}, balanced, strings inside included
  void finish();            // nothing may follow

  [[noreturn]] void fail(std::string_view wanted);
  [[noreturn]] void refuse(const std::string& problem);  // read well, but makes no sense

 private:
  void skip_blanks();
  std::string excerpt() const;

  std::string_view text_, what_;
  size_t at_ = 0;
};

}  // namespace tessera::hlo
