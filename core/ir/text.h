// Graphs as text. print -> parse -> print is the identity.
//
//     graph "step" mesh <data=2, model=2> {
//       %0 = parameter {index=0, name="x"} : f32[8,16] [{data}, {}] named "x" input 0 data
//       %1 = dot_general(%0, %w) {lhs_contracting=[1], ...} : f32[8,32] [{data}, {}] scope "mlp"
//       return %1 as "y" over input 2
//     }
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/ir/graph.h"

namespace tessera {

struct PrintOptions {
  bool shardings = true;
  bool logical_axes = true;
  bool scopes = true;
};

std::string print_graph(const Graph& graph, const PrintOptions& options = {});
std::string print_instruction(const Graph& graph, int index, const PrintOptions& options = {});

// `ops` is the table of known ops (core/ops/op_list.h). Throws ConfigError with line and what was
// expected.
Graph parse_graph(std::string_view text, std::span<const OpDef* const> ops);

}  // namespace tessera
