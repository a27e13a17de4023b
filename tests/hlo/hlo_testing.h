// Short ways to write modules in tests of HLO text.
#pragma once

#include <string>
#include <string_view>

#include "partitioner/hlo/module.h"

namespace tessera::testing {

// HloModule m with one computation, ENTRY main; `body` starts on line 4.
std::string entry_of(std::string_view body);

// parse -> print -> parse -> print; InternalError where the two prints differ, UserError where the
// text is refused. Returns the print.
std::string round_trip(std::string_view text);

// What the fuzzers do with a text: round_trip, import, simplify. Throws UserError where it
// is refused.
void take(std::string_view text);

// What parse says of a text it refuses; "" where it takes it.
std::string refusal(std::string_view text);

// The value of attribute `name` of the entry computation's root.
const hlo::HloAttributeValue& root_attribute(const hlo::HloModule& module, std::string_view name);

std::string read_text_file(const std::string& path);

}  // namespace tessera::testing
