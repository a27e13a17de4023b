#include "partitioner/origins.h"

namespace tessera {

const std::vector<Origin>& Origins::of(Value value) const {
  static const std::vector<Origin> kNone;
  const auto found = origins_.find(value);
  return found == origins_.end() ? kNone : found->second;
}

namespace {

std::string cause(const Graph& graph, const Origin& origin) {
  if (!origin.rule.empty()) return cat("because ", origin.rule);
  if (origin.instruction < 0)
    return cat("because it is stored as ", describe(graph, origin.source));
  const Instruction& instruction = graph.instructions[static_cast<size_t>(origin.instruction)];
  return cat("because ", instruction.op->name, " %", origin.instruction,
             instruction.scope.empty() ? "" : cat(" in ", instruction.scope), " shares factor ",
             origin.factor, " with ", describe(graph, origin.source));
}

}  // namespace

std::string Origins::explain(const Graph& graph, Value value) const {
  std::string text;
  for (const Origin& first : of(value)) {
    std::string indent = "  ";
    text += cat(text.empty() ? "" : "\n", "dim ", first.dim, " {",
                print_axes(*graph.mesh, first.axes), "} ", cause(graph, first));
    // Every source got its axes earlier, so the walk ends; 64 links are more than anyone reads.
    const Origin* link = &first;
    for (int depth = 0; depth < 64 && link->source.valid(); ++depth) {
      const Value source = link->source;
      const Origin* next = nullptr;
      for (const Origin& candidate : of(source))
        if (overlaps(candidate.axes, first.axes)) next = &candidate;
      if (!next) break;
      text += cat(";\n", indent, describe(graph, source), " dim ", next->dim, " {",
                  print_axes(*graph.mesh, next->axes), "} ", cause(graph, *next));
      indent += "  ";
      link = next;
    }
  }
  return text.empty() ? "replicated: no rule names its dims, and no neighbour is sharded along them"
                      : text;
}

}  // namespace tessera
