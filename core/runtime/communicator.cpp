#include "core/runtime/communicator.h"

#include <array>
#include <ostream>

namespace tessera {
namespace {
constexpr std::array<std::string_view, 6> kNames = {"all_reduce", "all_gather", "reduce_scatter",
                                                    "all_to_all", "permute",    "broadcast"};
}

std::string_view name_of(CollectiveKind kind) { return kNames[static_cast<size_t>(kind)]; }

std::ostream& operator<<(std::ostream& out, CollectiveKind kind) { return out << name_of(kind); }

}  // namespace tessera
