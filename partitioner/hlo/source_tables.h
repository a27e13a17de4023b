// The tables that metadata={stack_frame_id=3} points into: FileNames, FunctionNames, FileLocations
// and StackFrames, a number and a string or braces per row. Kept as attributes of the module by
// those names, one row per line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "partitioner/hlo/lexer.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

bool is_source_table(std::string_view name);
void read_source_tables(Lexer& lexer, std::vector<HloAttribute>& attributes);
void append_source_table(std::string& out, const HloAttribute& table);

}  // namespace tessera::hlo
