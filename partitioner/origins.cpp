#include "partitioner/origins.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "partitioner/regions.h"

namespace tessera {

std::string describe(const Graph& graph, const Place& place) {
  const std::string name = describe(region_at(graph, place.region), place.value);
  if (place.region.empty()) return name;
  return cat(name, " in region ", place.region.substr(0, place.region.size() - 1));
}

const Place& Origins::representative(const Place& place) const {
  const auto found = merged_.find(place);
  return found == merged_.end() ? place : found->second;
}

const std::vector<Origin>& Origins::of(const Place& place) const {
  static const std::vector<Origin> kNone;
  const auto found = origins_.find(representative(place));
  return found == origins_.end() ? kNone : found->second;
}

void Origins::merge(const Place& place, const Place& other) {
  if (place == other) return;
  merged_[place] = other;
  const auto found = origins_.find(place);
  if (found == origins_.end()) return;
  std::vector<Origin>& known = origins_[other];
  for (Origin& origin : found->second)
    if (std::none_of(known.begin(), known.end(), [&](const Origin& one) {
          return one.dim == origin.dim && one.axes == origin.axes;
        }))
      known.push_back(std::move(origin));
  origins_.erase(place);
}

namespace {

std::string name_of_op(const Graph& graph, const std::string& region, int index) {
  const Instruction& instruction =
      region_at(graph, region).instructions[static_cast<size_t>(index)];
  return cat(instruction.op->name, " %", index,
             region.empty() ? "" : cat(" of ", region.substr(0, region.size() - 1)),
             instruction.scope.empty() ? "" : cat(" in ", instruction.scope));
}

std::string cause(const Graph& graph, const Origin& origin) {
  if (!origin.rule.empty()) return cat("because ", origin.rule);
  if (!origin.edge.empty())
    return cat("because it ", origin.edge, " ", describe(graph, origin.source));
  if (origin.instruction < 0)
    return cat("because it is stored as ", describe(graph, origin.source));
  return cat("because ", name_of_op(graph, origin.region, origin.instruction), " shares factor ",
             origin.factor, " with ", describe(graph, origin.source));
}

}  // namespace

std::string Origins::explain(const Graph& graph, const Place& place,
                             const std::vector<Conflict>& conflicts) const {
  std::string text;
  std::set<std::pair<std::string, int>> passed;  // ops on the way
  for (const Origin& first : of(place)) {
    std::string indent = "  ";
    text += cat(text.empty() ? "" : "\n", "dim ", first.dim, " {",
                print_axes(*graph.mesh, first.axes), "} ", cause(graph, first));
    // Every source got its axes earlier, so the walk ends; 64 links are more than anyone reads.
    const Origin* link = &first;
    for (int depth = 0; depth < 64 && link->source.valid(); ++depth) {
      passed.insert({link->region, link->instruction});
      const Place source = link->source;
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
  if (text.empty())
    text = "replicated: no rule names its dims, and no neighbour is sharded along them";
  const Place& own = representative(place);
  for (const Conflict& conflict : conflicts)
    if (passed.count({conflict.region, conflict.instruction}) ||
        std::count(conflict.places.begin(), conflict.places.end(), own))
      text += cat("\nconflict at ", name_of_op(graph, conflict.region, conflict.instruction), ": ",
                  conflict.text);
  return text;
}

}  // namespace tessera
