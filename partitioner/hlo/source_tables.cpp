#include "partitioner/hlo/source_tables.h"

namespace tessera::hlo {
namespace {

bool at_row(Lexer& lexer) { return lexer.peek() >= '0' && lexer.peek() <= '9'; }

}  // namespace

bool is_source_table(std::string_view name) {
  return name == "FileNames" || name == "FunctionNames" || name == "FileLocations" ||
         name == "StackFrames";
}

void read_source_tables(Lexer& lexer, std::vector<HloAttribute>& attributes) {
  while (is_source_table(lexer.peek_word())) {
    Lexer ahead = lexer;
    const std::string_view name = ahead.word();
    // A computation of this name; an empty table is of no use.
    if (const char next = ahead.peek(); next == '{' || next == '(' || next == '-') return;
    const size_t at = lexer.position();
    lexer.word();
    std::string rows;
    while (at_row(lexer)) {
      rows += std::to_string(lexer.integer("the number of a row")) + " ";
      rows += lexer.value("a string or {...}", false) + "\n";
    }
    attributes.push_back({std::string(name), Verbatim{rows}, lexer.line_of(at)});
  }
}

void append_source_table(std::string& out, const HloAttribute& table) {
  out += "\n" + table.name + "\n";
  if (const auto* rows = std::get_if<Verbatim>(&table.value)) out += rows->text;
}

}  // namespace tessera::hlo
