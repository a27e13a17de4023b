// A product that is added to an accumulator becomes one product into that accumulator's memory:
//
//     %2 = dot_general(%x, %dy)
//     %3 = add(%acc, %2)                  %3 = dot_general_add(%acc, %x, %dy)
//     return %3 over input %acc      ->   return %3 over input %acc
//
// and scaled_dot_general, without a bias, scaled_dot_general_add.
//
// It saves a buffer of the gradient's size and two passes over it. Accumulators are the inputs that
// an output must overwrite, and what a loop's body carries; elsewhere an add is left to the fusion of
// elementwise chains, which may have better use for it. Several addends become a chain of products.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// `graph` is local: on global shapes a partial product could not be told from a whole one.
Graph accumulate_products(const Graph& graph);

}  // namespace tessera
