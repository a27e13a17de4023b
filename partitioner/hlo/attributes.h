// The attributes of instructions and of the module: which name has which kind of value, and how
// each kind reads and prints. One table; names that it lacks are kept as they stand.
#pragma once

#include <string>
#include <string_view>

#include "partitioner/hlo/lexer.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

enum class AttributeKind : uint8_t {
  boolean,         // true
  integer,         // 3
  number,          // 0.001
  text,            // "mhlo.topk"
  config,          // {"k": [1]} (Verbatim) or "text" (std::string)
  name,            // LT; "text" and {a, b} are taken too, as what they are
  names,           // {a, b}
  ints,            // {0,1}
  int_lists,       // {{0,1},{1,0}}
  window,          // {size=3x3 pad=1_1x1_1}
  dim_labels,      // b01f_01io->b01f
  pad,             // 0_1x0_0_2
  slice,           // {[0:8], [0:8:2]}
  sharding,        // {devices=[2,1]<=[2]}
  replica_groups,  // {{0,1}}, [1,2]<=[2]
  dictionary,      // {a="b", c={d}}, {op_name="f" source_line=3}
  verbatim,
};

struct AttributeFacts {
  std::string_view name;
  AttributeKind kind;
  bool names_computations = false;
};
// Of unknown names: verbatim.
AttributeFacts attribute_facts(std::string_view name);

// After the "=". Throws UserError.
HloAttributeValue parse_attribute_value(Lexer& lexer, std::string_view name);
Dictionary parse_dictionary(Lexer& lexer);

void append_attribute(std::string& out, const HloAttribute& attribute);  // name=value
void append_dictionary(std::string& out, const Dictionary& dictionary, std::string_view separator);

// For messages: "a list of integers".
std::string_view kind_in_words(size_t alternative);

// The text of a Dictionary's value: "..." without its quotes and escapes, anything else as it is.
std::string unquoted(std::string_view value);

}  // namespace tessera::hlo
