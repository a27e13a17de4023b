// The table of all ops. Explicit code: adding an op is one line in op_list.cpp.
#pragma once

#include <span>
#include <string_view>

#include "core/ir/op_def.h"

namespace tessera {

std::span<const OpDef* const> all_ops();
// By OpDef::name; null where there is none.
const OpDef* find_op(std::string_view name);

}  // namespace tessera
