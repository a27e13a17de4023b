#include "core/base/error.h"

namespace tessera {

void throw_internal_error(const char* file, int line, const char* condition,
                          const std::string& message) {
  throw InternalError(cat("internal error at ", file, ":", line, ": ", message.empty() ? "" : message,
                          message.empty() ? "" : " ", "(failed: ", condition,
                          "). This is a bug in Tessera; please report it with the command used."));
}

}  // namespace tessera
