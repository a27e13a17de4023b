// Which manual axes a value of a manual computation varies over, made explicit before it is
// differentiated.
//
// A value is *invariant* over an axis where all coordinates hold the same; its cotangent then is
// one too: the sum over coordinates of what each contributes. So wherever an invariant value meets
// a varying one, an instruction `vary{axes}` is put between: the identity forward, a sum all_reduce
// backward. all_reduce and all_gather go the other way: their results are invariant, and the
// transpose of all_reduce is `vary`.
//
//     w: invariant, x: varying over {data}
//     y = dot(x, w)      becomes  y = dot(x, vary{data}(w)):   dw = all_reduce{data}(x^T dy)
#pragma once

#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// Only in graphs under differentiation: `without_vary` removes it from what they give.
extern const OpDef kVary;

struct VaryingGraph {
  Graph graph;
  std::vector<AxisList> axes;  // per instruction: over which its results vary
};

// `inputs`: the manual axes over which each input varies.
VaryingGraph with_explicit_varying(const Graph& callee, const std::vector<AxisList>& inputs);

Graph without_vary(const Graph& graph);

}  // namespace tessera
