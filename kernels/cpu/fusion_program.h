// A fusion's body as a tile program.
//
// Every value of the body is a function of the position in the outputs' shape (the walk). A value
// of a smaller shape, broadcast later, is read through strides: per dim of the walk, how far its
// row-major index moves. Broadcasts and reshapes then cost nothing: they only change the strides
// through which their operand is seen.
//
//   bias f32[768] -> broadcast_in_dim dimensions=[1] -> f32[256,768]      walk [256, 768]
//   the broadcast is seen through [768, 1], so the bias is seen through [0, 1]
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
