#include "core/base/version.h"

#include "core/base/commit.h"

namespace tessera {

std::string_view version() { return TESSERA_VERSION; }
std::string_view source_commit() { return TESSERA_COMMIT; }

std::string_view compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

}  // namespace tessera
