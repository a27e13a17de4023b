// The regions of control-flow ops (core/ir/regions.h) as the partitioner sees them: which operands
// and results are which of their inputs and outputs, and how a pass goes into them. Every pass goes
// into regions through with_regions (core/ir/regions.h).
//
//     while (x0, x1) body { (p0, p1) -> (y0, y1) }     carried value i: operand i, p_i of body and
//                                                      condition, y_i and result i lie alike
//     case (index, x0)  branches { (p0) -> (y0) } ...  operand 1 + i feeds input i of every branch
//     call, manual_computation (x0) callee { ... }     operand i feeds input i
//
// A region is partitioned as a graph of its own whose boundary is fixed once propagation has run:
// inputs lie as their parameters say, outputs as GraphOutput::sharding demands. So whatever moves at
// the boundary of a loop moves once, outside it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/ir/regions.h"

namespace tessera {

// The operand of a control-flow op that feeds input 0 of its regions.
int first_region_operand(const Instruction& instruction);
// Whether the outputs of the region are the results of the op (not for the condition of a loop).
bool gives_results(const Region& region);

// The pass on a graph and on all its regions, innermost first, each with the axes that the manual
// computations around it have taken: what it holds differs along them.
using PassUnderManual = std::function<Graph(const Graph&, const AxisList& manual)>;
Graph with_regions(const Graph& graph, const AxisList& manual, const PassUnderManual& pass);

// The region at a path (core/ir/regions.h). Throws InternalError where there is none.
const Graph& region_at(const Graph& graph, std::string_view path);

// Number of instructions, those of regions included.
int64_t instruction_count(const Graph& graph);

}  // namespace tessera
