// A fusion's body as a tile program, by its walk (kernels/common/fusion_walk.h).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/ir/graph.h"
#include "kernels/cpu/tile_program.h"

namespace tessera::cpu {

struct FusionProgram {
  std::optional<TileProgram> program;
  std::string refusal;  // why there is none
};

// Kept per thread as long as the body lives; a training run compiles each fusion once.
std::shared_ptr<const FusionProgram> fusion_program(const GraphRef& body);

}  // namespace tessera::cpu
