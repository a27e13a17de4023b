#include "core/base/steady_clock.h"

#include <chrono>

namespace tessera {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace tessera
