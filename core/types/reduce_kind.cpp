#include "core/types/reduce_kind.h"

#include <array>
#include <ostream>

namespace tessera {
namespace {
constexpr std::array<std::string_view, 6> kNames = {"sum",     "max",         "min",
                                                    "product", "logical_and", "logical_or"};
}

std::string_view name_of(ReduceKind kind) { return kNames[static_cast<size_t>(kind)]; }

std::optional<ReduceKind> parse_reduce_kind(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<ReduceKind>(i);
  return std::nullopt;
}

std::ostream& operator<<(std::ostream& out, ReduceKind kind) { return out << name_of(kind); }

}  // namespace tessera
