// Norms over a sharded dim, as reductions of their statistics.
//
// layer_norm and rms_norm demand whole rows, so a row that is cut over `model` would be gathered in
// front of them, and again behind them, where their result is wanted in shards. Written out, only
// the statistics cross devices:
//
//     layer_norm(x)    ->    mean = reduce(x) / d, rstd = rsqrt(reduce((x - mean)^2) / d + epsilon),
//                            y = (x - mean) rstd gamma + beta
//
// that is two all_reduces of one number per row forward, and two backward; one and one for rms_norm.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Needs the wishes of propagation. A norm is expanded where x and y (backward: x and dx) are wanted
// with axes on the last dim; all others stay composites, which have kernels of their own.
Graph expand_norms(const Graph& graph);

}  // namespace tessera
