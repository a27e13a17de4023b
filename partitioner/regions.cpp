#include "partitioner/regions.h"

#include <map>

#include "core/base/error.h"
#include "core/ops/control.h"

namespace tessera {

int first_region_operand(const Instruction& instruction) {
  return instruction.is(ops::kCase) ? 1 : 0;
}

bool gives_results(const Region& region) { return region.key != Attr::condition; }

Graph with_regions(const Graph& graph, const AxisList& manual, const PassUnderManual& pass) {
  std::map<const Graph*, AxisList> taken;  // of a region that several share, by any of them
  for (const Instruction& instruction : graph.instructions)
    for (const Region& region : control_regions(instruction)) {
      AxisList& axes = taken[region.graph.get()];
      axes = concat(axes, without(manual, axes));
      if (instruction.is(ops::kManualComputation))
        axes = concat(axes, without(instruction.attributes.get<AxisList>(Attr::axes), axes));
    }
  if (taken.empty()) return pass(graph, manual);
  return pass(with_mapped_regions(graph,
                                  [&](const Graph& region) {
                                    return with_regions(region, taken.at(&region), pass);
                                  }),
              manual);
}

const Graph& region_at(const Graph& graph, std::string_view path) {
  if (path.empty()) return graph;
  const std::string first(path.substr(0, path.find('/') + 1));
  const auto index = static_cast<size_t>(std::stoll(first.substr(1)));
  TESSERA_CHECK(index < graph.instructions.size(), "no region ", path, " in graph ", graph.name);
  for (const Region& region : control_regions(graph.instructions[index]))
    if (region_path("", static_cast<int>(index), region) == first)
      return region_at(*region.graph, path.substr(first.size()));
  TESSERA_CHECK(false, "no region ", path, " in graph ", graph.name);
}

int64_t instruction_count(const Graph& graph) {
  auto count = static_cast<int64_t>(graph.instructions.size());
  for (const Instruction& instruction : graph.instructions)
    for (const Region& region : control_regions(instruction))
      count += instruction_count(*region.graph);
  return count;
}

}  // namespace tessera
