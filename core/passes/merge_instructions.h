// What passes share that make one instruction of several: as many such merges as can stand beside each other
// are done in one copy of the graph, since a large one has hundreds and a copy for each takes minutes.
//
// Merges may build on each other, but not in a circle. Both of these can be done, each without the other:
//
//     %1 = a(%x)      %2 = b(%y)      merge {%1, %4}: reads %x and %2
//     %3 = c(%1)      %4 = d(%2)      merge {%2, %3}: reads %y and %1
#pragma once

#include <vector>

#include "core/ir/graph.h"

namespace tessera {

struct Merge {
  std::vector<int> members;       // in program order; no instruction is a member of two merges
  Instruction one;                // in their place; its operands are values of the source
  std::vector<Value> stands_for;  // of members: for each result of `one` the value whose users get it
};

// Does those of `merges` that can be done together with all taken before them. Each must be possible alone: the
// operands of `one` do not depend on its members. At least the first is done, so that a pass may look again at the
// result until it finds no more.
Graph merge_instructions(const Graph& graph, const std::vector<Merge>& merges);

}  // namespace tessera
