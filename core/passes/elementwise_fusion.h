// Turns chains of elementwise instructions of one shape into single `fusion` instructions, so that
// each input is read once and each output written once, whatever the length of the chain.
//
// A cluster grows in program order: an instruction joins the cluster of its latest operand. Every
// cluster has a bound, the program position of its first user outside; it must be able to run before
// that user. So once a bound is known, an instruction may join only if its other operands are there
// earlier: instructions before the bound, or clusters with a smaller bound. Then every cluster can be
// placed just before its bound, and no cycle can arise.
//
// Constants and broadcasts of smaller tensors are drawn into each cluster that reads them. Values
// that recompute and those that do not never share a cluster.
//
//     %2 = add(%0, broadcast_in_dim(%1))          %2, %3 = fusion(%0, %1) {body: add, gelu}
//     %3 = gelu(%2)                          ->
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph fuse_elementwise(const Graph& graph);

}  // namespace tessera
