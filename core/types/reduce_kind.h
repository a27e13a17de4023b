// The commutative combiners of reductions, partial values and collectives.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string_view>

namespace tessera {

enum class ReduceKind : uint8_t { sum, max, min, product, logical_and, logical_or };

std::string_view name_of(ReduceKind kind);
std::optional<ReduceKind> parse_reduce_kind(std::string_view name);
std::ostream& operator<<(std::ostream& out, ReduceKind kind);

}  // namespace tessera
