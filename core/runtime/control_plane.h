// The small blocking exchanges of a World, made of collectives of one group over all ranks.
#pragma once

#include <string>
#include <vector>

#include "core/runtime/communicator.h"

namespace tessera {

class ControlPlane {
 public:
  explicit ControlPlane(Communicator* all) : all_(all) {}

  void barrier();
  int64_t all_reduce_max(int64_t value);
  std::string broadcast_text(const std::string& text, int root);
  std::vector<std::string> all_gather_text(const std::string& text);

 private:
  Communicator* all_;
};

}  // namespace tessera
