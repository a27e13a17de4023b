#include "partitioner/hlo/parse_shape.h"

#include <algorithm>

namespace tessera::hlo {
namespace {

constexpr std::string_view kShape = "a shape such as f32[8,16] or (s32[], f32[8])";

// The body of a computation follows a shape too, so a brace is a layout only with {1,0}, {:T(8)}
// or, directly after the bracket, {}.
bool at_layout(Lexer& lexer) {
  const bool adjacent = lexer.next_raw() == '{';
  if (lexer.peek() != '{') return false;
  Lexer ahead = lexer;
  ahead.accept('{');
  const char c = ahead.peek();
  return (c >= '0' && c <= '9') || c == ':' || (c == '}' && adjacent);
}

std::string read_layout(Lexer& lexer) {
  std::string text = lexer.balanced("a layout");
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; });
  return text;
}

// The extents up to the bracket; true where one of them has a bound or is unknown, with the text of
// all of them.
bool read_extents(Lexer& lexer, Ints& extents, std::string& text) {
  bool dynamic = false;
  if (lexer.accept(']')) return false;
  do {
    if (extents.size() == kMaxDepth)
      lexer.fail(lexer.position(), cat("a shape of more than ", kMaxDepth, " dims"));
    if (!extents.empty()) text += ',';
    if (lexer.accept('?')) {
      dynamic = true;
      text += '?';
      extents.push_back(0);
      continue;
    }
    if (lexer.accept("<=")) {
      dynamic = true;
      text += "<=";
    }
    const size_t at = lexer.position();
    const int64_t extent = lexer.integer("the extent of a dim");
    if (extent < 0) lexer.fail(at, cat("a dim of extent ", extent));
    text += std::to_string(extent);
    extents.push_back(extent);
  } while (lexer.accept(','));
  if (!lexer.accept(']')) lexer.expected("\",\" or \"]\" after an extent");
  return dynamic;
}

void check_size(Lexer& lexer, size_t at, const Ints& extents, int64_t element) {
  constexpr int64_t kLimit = int64_t{1} << 62;
  int64_t left = kLimit / std::max<int64_t>(1, element);
  for (const int64_t extent : extents) {
    left /= std::max<int64_t>(1, extent);
    if (left == 0) lexer.fail(at, "a shape of more than 2^62 bytes");
  }
}

HloShape read_array(Lexer& lexer) {
  HloShape shape;
  const size_t at = lexer.position();
  shape.element_type = lexer.word();
  if (shape.element_type.empty() || lexer.next_raw() != '[') lexer.expected(kShape, at);
  lexer.accept('[');
  Ints extents;
  std::string text;
  if (read_extents(lexer, extents, text)) {
    shape.element_type += "[" + text + "]";
  } else {
    shape.dtype = parse_dtype(shape.element_type);
    check_size(lexer, at, extents, shape.dtype ? size_of(*shape.dtype) : 16);
    shape.dims = Shape(std::move(extents));
  }
  if (at_layout(lexer)) shape.layout = read_layout(lexer);
  return shape;
}

HloShape read_shape(Lexer& lexer, int depth) {
  const size_t at = lexer.position();
  if (!lexer.accept('(')) return read_array(lexer);
  if (depth == kMaxDepth) lexer.fail(at, cat("tuples nest deeper than ", kMaxDepth));
  HloShape shape;
  shape.is_tuple = true;
  if (lexer.accept(')')) return shape;
  do shape.elements.push_back(read_shape(lexer, depth + 1));
  while (lexer.accept(','));
  if (!lexer.accept(')')) lexer.expected("\",\" or \")\" after an element of a tuple's shape");
  return shape;
}

}  // namespace

HloShape parse_shape(Lexer& lexer) { return read_shape(lexer, 0); }

bool at_shape(Lexer& lexer) {
  if (lexer.peek() == '(') return true;
  Lexer ahead = lexer;
  return !ahead.word().empty() && ahead.next_raw() == '[';
}

void append_shape(std::string& out, const HloShape& shape, bool with_layout) {
  if (shape.is_tuple) {
    out += '(';
    for (size_t i = 0; i < shape.elements.size(); ++i) {
      if (i != 0) out += ", ";
      append_shape(out, shape.elements[i], with_layout);
    }
    out += ')';
    return;
  }
  out += shape.element_type;
  if (shape.element_type.find('[') == std::string::npos) {
    out += '[';
    for (int dim = 0; dim < shape.dims.rank(); ++dim) {
      if (dim != 0) out += ',';
      out += std::to_string(shape.dims[dim]);
    }
    out += ']';
  }
  if (with_layout) out += shape.layout;
}

}  // namespace tessera::hlo
