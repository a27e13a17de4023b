// Regions: the graphs that an instruction holds as attributes, closed over their inputs.
//
// A *control-flow* instruction (call, while, case, manual_computation) runs its regions on its own
// operands and results; passes, shardings and the verifier go into them. The other regions (the
// body of a fusion, combiners of scalars) are part of what one op means and are left alone.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ir/builder.h"
#include "core/ir/graph.h"

namespace tessera {

class GraphRewriter;

struct Region {
  Attr key;
  int index;          // among the branches; 0 elsewhere
  GraphRef graph;
  std::string name;   // "body", "condition", "branch 1", "callee"
};

// All regions of an instruction, in the order of the attributes.
std::vector<Region> regions_of(const Attributes& attributes);
inline std::vector<Region> regions_of(const Instruction& instruction) {
  return regions_of(instruction.attributes);
}

// Whether the regions run on the instruction's operands and results.
bool has_control_flow(const Instruction& instruction);

// The regions of a control-flow instruction; none for others.
std::vector<Region> control_regions(const Instruction& instruction);

// A region below a graph: "" is the graph itself, "%12.body/%3.branch 1/" one two levels down.
std::string region_path(std::string_view outer, int instruction, const Region& region);

// Calls visit(region graph) for the graph itself and, inside out, for all control-flow regions.
void for_each_region(const Graph& graph, const std::function<void(const Graph&)>& visit);

// Replaces every control-flow region by map(region). The boundaries must keep their types. A graph
// that two instructions share is mapped twice.
void map_regions(Instruction& instruction, const std::function<Graph(const Graph&)>& map);
// The same for all instructions of a graph, except that what several of them share is mapped once and
// shared again.
Graph with_mapped_regions(const Graph& graph, const std::function<Graph(const Graph&)>& map);

// pass(graph) after the same pass on all its regions, innermost first. How passes go into regions.
using GraphPass = std::function<Graph(const Graph&)>;
Graph with_regions(const Graph& graph, const GraphPass& pass);

// Whether two graphs hold the same instructions, inputs and outputs (names of graphs, inputs and
// outputs apart).
bool same_computation(const Graph& a, const Graph& b);

// The graph with only these inputs and outputs, in these orders. A dropped input must not be used by
// what stays. Instructions that no output needs are dropped too.
Graph with_boundary(const Graph& graph, const std::vector<int>& inputs,
                    const std::vector<int>& outputs);

// Appends a copy of the instructions of `graph` to the builder's graph, with `inputs` in place of its
// parameters, and returns its outputs. Scopes of the copies stand inside the builder's.
std::vector<Value> splice(Builder& builder, const Graph& graph, std::span<const Value> inputs);
// The same in the place of control-flow instruction `index` of the rewriter's source, whose operands
// from `first_operand` on are the inputs.
void splice_instead(GraphRewriter& rewriter, const Instruction& instruction, int index,
                    const Graph& region, size_t first_operand = 0);

// Types at the boundary of a region.
std::vector<TensorType> input_types(const Graph& graph);
std::vector<TensorType> output_types(const Graph& graph);

}  // namespace tessera
