// Finds its way in a protobuf text by position, where the parser only says line and column.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tessera::config {

// Offset of a 0-based line and column as the protobuf tokenizer counts them (a tab goes to the next
// multiple of 8). Past the end: the text's size.
size_t offset_of(std::string_view text, int line, int column);

// 1-based line of an offset.
int line_of(std::string_view text, size_t offset);

// The blocks open at `offset`, outermost first: "" or "sharding.mesh".
std::string enclosing_path(std::string_view text, size_t offset);

struct TextRange {
  size_t begin = 0;
  size_t end = 0;
  bool empty() const { return begin == end; }
};

// The value that starts at `offset`: a quoted string or a run of word characters; else empty.
TextRange value_at(std::string_view text, size_t offset);

struct ValueOwner {
  TextRange name;  // the field's name; empty when not found
  bool in_list = false;
};

// The name of the field whose value (or list element) starts at `offset`.
ValueOwner owner_of_value(std::string_view text, size_t offset);

// The word that ends at or before `offset`, skipping blanks and one colon.
TextRange word_before(std::string_view text, size_t offset);

// `text` with a value and its field name (or its comma, in a list) replaced by blanks; lines stay.
std::string without_value(std::string text, TextRange value, const ValueOwner& owner);

}  // namespace tessera::config
