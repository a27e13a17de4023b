// Masks where an op would let padding into a valid element.
//
// What every pad region holds is followed by the lattice of core/ir/padding.h; where an operand's
// padding does not hold what the op needs, a mask_padding is put right before the first such op, and
// later users with the same need share it. An output that overwrites an input must be zero in its
// padding, as all stored tensors are.
//
//     dot(x, w), contracted over 5 on <m=4>, x unknown, w a parameter (zero):  one mask, on x
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// After pad_dims and the making of collectives. Sets Graph::masks_padding.
Graph mask_padding(const Graph& graph);

}  // namespace tessera
