#include <algorithm>
#include <charconv>

#include "core/base/error.h"
#include "partitioner/hlo/attributes.h"

namespace tessera::hlo {
namespace {

bool read_boolean(Lexer& lexer) {
  const size_t at = lexer.position();
  const std::string_view word = lexer.word();
  if (word != "true" && word != "false") lexer.expected("true or false", at);
  return word == "true";
}

Names read_names(Lexer& lexer) {
  Names result;
  lexer.expect('{', "before a list of names");
  if (lexer.accept('}')) return result;
  do result.list.emplace_back(lexer.name("a name"));
  while (lexer.accept(','));
  if (!lexer.accept('}')) lexer.expected("\",\" or \"}\" after a name");
  return result;
}

HloAttributeValue read_name(Lexer& lexer) {
  if (lexer.peek() == '"') return lexer.string("a name");
  if (lexer.peek() == '{') return read_names(lexer);
  return Name{std::string(lexer.name("a name"))};
}

IntLists read_int_lists(Lexer& lexer) {
  IntLists result;
  lexer.expect('{', "before lists of integers");
  if (lexer.accept('}')) return result;
  do result.lists.push_back(lexer.integers("an integer"));
  while (lexer.accept(','));
  if (!lexer.accept('}')) lexer.expected("\",\" or \"}\" after a list of integers");
  return result;
}

// Numbers of one dim of a window or of padding: "3", "1_1", "0_1_2"; and the next dim after an x.
Ints read_parts(Lexer& lexer, std::string_view& text, size_t at) {
  Ints parts;
  do {
    if (!parts.empty()) text.remove_prefix(1);
    int64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::result_out_of_range)
      lexer.fail(at, "a number that does not fit 64 bits");
    if (error != std::errc()) lexer.expected("numbers such as 3x3 or 1_1x0_2", at);
    text.remove_prefix(static_cast<size_t>(stop - text.data()));
    parts.push_back(value);
  } while (text.starts_with('_'));
  return parts;
}

// All dims of "1_1x0_2"; each of `least` to `most` numbers.
std::vector<Ints> read_dims(Lexer& lexer, size_t least, size_t most) {
  const size_t at = lexer.position();
  std::string_view text = lexer.run("-");
  std::vector<Ints> dims;
  do {
    if (!dims.empty()) text.remove_prefix(1);
    dims.push_back(read_parts(lexer, text, at));
    if (dims.back().size() < least || dims.back().size() > most)
      lexer.fail(at, cat(dims.back().size(), " numbers for dim ", dims.size() - 1, ", expected ",
                         least == most ? cat(least) : cat(least, " or ", most)));
  } while (text.starts_with('x'));
  if (!text.empty()) lexer.expected("numbers such as 3x3 or 1_1x0_2", at);
  return dims;
}

void read_window_field(Lexer& lexer, Window& window) {
  const size_t at = lexer.position();
  const std::string_view key = lexer.word();
  Ints* const list = key == "size"           ? &window.size
                     : key == "stride"       ? &window.stride
                     : key == "pad"          ? &window.pad_low
                     : key == "lhs_dilate"   ? &window.lhs_dilate
                     : key == "rhs_dilate"   ? &window.rhs_dilate
                     : key == "rhs_reversal" ? &window.rhs_reversal
                                             : nullptr;
  if (list == nullptr)
    lexer.expected("size, stride, pad, lhs_dilate, rhs_dilate or rhs_reversal in a window", at);
  if (!list->empty()) lexer.fail(at, cat(key, " stands twice in a window"));
  lexer.expect('=', cat("after ", key, " in a window"));
  const size_t parts = key == "pad" ? 2 : 1;
  for (const Ints& dim : read_dims(lexer, parts, parts)) {
    list->push_back(dim[0]);
    if (parts == 2) window.pad_high.push_back(dim[1]);
  }
}

Window read_window(Lexer& lexer) {
  Window window;
  const size_t at = lexer.position();
  lexer.expect('{', "before a window");
  while (!lexer.accept('}')) read_window_field(lexer, window);
  for (const Ints* list : {&window.stride, &window.pad_low, &window.lhs_dilate, &window.rhs_dilate,
                           &window.rhs_reversal})
    if (!list->empty() && list->size() != window.size.size())
      lexer.fail(at, cat("a window of ", window.size.size(), " sizes, but ", list->size(),
                         " entries in another of its lists"));
  return window;
}

DimLabels read_dim_labels(Lexer& lexer) {
  const size_t at = lexer.position();
  const std::string_view text = lexer.run("?->");
  const size_t underscore = text.find('_');
  const size_t arrow = text.find("->");
  const auto known = [](std::string_view labels, std::string_view letters) {
    return !labels.empty() && std::all_of(labels.begin(), labels.end(), [&](char c) {
      return (c >= '0' && c <= '9') || letters.find(c) != std::string_view::npos;
    });
  };
  if (underscore == std::string_view::npos || arrow == std::string_view::npos || arrow < underscore)
    lexer.expected("dim labels such as b01f_01io->b01f", at);
  DimLabels labels{std::string(text.substr(0, underscore)),
                   std::string(text.substr(underscore + 1, arrow - underscore - 1)),
                   std::string(text.substr(arrow + 2))};
  if (!known(labels.input, "bf?") || !known(labels.kernel, "io?") || !known(labels.output, "bf?"))
    lexer.expected("dim labels such as b01f_01io->b01f", at);
  return labels;
}

// Of a scalar it is empty, so that nothing may be passed over before it.
PadConfig read_pad(Lexer& lexer) {
  PadConfig config;
  const char next = lexer.next_raw();
  if (next != '-' && (next < '0' || next > '9')) return config;
  for (const Ints& dim : read_dims(lexer, 2, 3)) {
    config.low.push_back(dim[0]);
    config.high.push_back(dim[1]);
    config.interior.push_back(dim.size() == 3 ? dim[2] : 0);
  }
  return config;
}

SliceRanges read_slice(Lexer& lexer) {
  SliceRanges ranges;
  lexer.expect('{', "before the ranges of a slice");
  if (lexer.accept('}')) return ranges;
  do {
    lexer.expect('[', "of a range [start:limit:stride]");
    ranges.start.push_back(lexer.integer("the start of a range"));
    lexer.expect(':', "after the start of a range");
    ranges.limit.push_back(lexer.integer("the limit of a range"));
    ranges.stride.push_back(lexer.accept(':') ? lexer.integer("the stride of a range") : 1);
    lexer.expect(']', "after a range");
  } while (lexer.accept(','));
  if (!lexer.accept('}')) lexer.expected("\",\" or \"}\" after a range");
  return ranges;
}

// The notations of shardings and groups are parsed by others, whose messages show the place in the
// text that they were given.
template <typename Parse>
auto placed(Lexer& lexer, size_t at, Parse parse) {
  try {
    return parse();
  } catch (const UserError& error) {
    lexer.fail(at, error.what());
  }
}

HloSharding read_sharding(Lexer& lexer) {
  const size_t at = lexer.position();
  const std::string text = lexer.balanced("a sharding such as {devices=[2,1]<=[2]}");
  return placed(lexer, at, [&] { return parse_hlo_sharding(text); });
}

ReplicaGroups read_replica_groups(Lexer& lexer) {
  const size_t at = lexer.position();
  const std::string text = lexer.value("replica groups such as {{0,1}} or [1,2]<=[2]", true);
  return placed(lexer, at, [&] { return parse_replica_groups(text); });
}

}  // namespace

Dictionary parse_dictionary(Lexer& lexer) {
  Dictionary result;
  lexer.expect('{', "before a list of key=value");
  while (!lexer.accept('}')) {
    const size_t at = lexer.position();
    const std::string key(lexer.run("._-:/@"));
    if (key.empty()) lexer.expected("key=value or \"}\"", at);
    lexer.expect('=', "after a key");
    result.entries.emplace_back(key, lexer.value("a value", false));
    lexer.accept(',');
  }
  return result;
}

HloAttributeValue parse_attribute_value(Lexer& lexer, std::string_view name) {
  switch (attribute_facts(name).kind) {
    case AttributeKind::boolean:
      return read_boolean(lexer);
    case AttributeKind::integer:
      return lexer.integer("an integer");
    case AttributeKind::number:
      return lexer.number("a number");
    case AttributeKind::text:
      return lexer.string("a string in quotes");
    case AttributeKind::config:
      if (lexer.peek() == '"') return lexer.string("a string in quotes");
      return Verbatim{lexer.balanced("a string in quotes or {...}")};
    case AttributeKind::name:
      return read_name(lexer);
    case AttributeKind::names:
      return read_names(lexer);
    case AttributeKind::ints:
      return lexer.integers("an integer");
    case AttributeKind::int_lists:
      return read_int_lists(lexer);
    case AttributeKind::window:
      return read_window(lexer);
    case AttributeKind::dim_labels:
      return read_dim_labels(lexer);
    case AttributeKind::pad:
      return read_pad(lexer);
    case AttributeKind::slice:
      return read_slice(lexer);
    case AttributeKind::sharding:
      return read_sharding(lexer);
    case AttributeKind::replica_groups:
      return read_replica_groups(lexer);
    case AttributeKind::dictionary:
      return parse_dictionary(lexer);
    case AttributeKind::verbatim:
      break;
  }
  return Verbatim{lexer.value("the value of an attribute", true)};
}

}  // namespace tessera::hlo
