// From the IR's elementwise ops to the functions of the prelude.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "core/ir/op_def.h"

namespace tessera::cuda {

// The function of prelude_text.inc that computes `op` with these attributes, its template arguments included:
// "add", "compare_lt", "convert<bf16>"; nullopt where there is none.
std::optional<std::string> op_function(const OpDef& op, const Attributes& attributes);

// Every op for which there may be one.
std::span<const OpDef* const> ops_with_functions();

// The prelude's name of a type ("bf16"); nullopt where generated kernels do not compute in it (complex numbers,
// floats of 8 bits).
std::optional<std::string> type_name(DType dtype);

}  // namespace tessera::cuda
