// What `tessera hlo shardings` prints: propagation over the imported graph as it stands, whose
// values keep their places, so that the module's instructions find theirs.
#include "core/base/error.h"
#include "partitioner/annotate.h"
#include "partitioner/hlo/import.h"
#include "partitioner/other_meshes.h"
#include "partitioner/propagate.h"

namespace tessera::hlo {
namespace {

class Lyings {
 public:
  explicit Lyings(const Imported& imported) : imported_(imported) {
    ForeignBoundary boundary;
    Origins origins;
    const Graph graph = onto_one_mesh(imported.graph, imported.mesh, boundary);
    propagated_ = propagate(annotate(graph, imported.mesh, {}, &origins), origins).graph;
    TESSERA_CHECK(propagated_.instructions.size() == imported.graph.instructions.size(),
                  "propagation moved instructions");
  }

  // What is stated over another order of devices stays so.
  Sharding of(Value value) const {
    const std::optional<Sharding>& stated = imported_.graph.info(value).sharding;
    if (stated && !stated->is_for(*imported_.mesh)) return stated->closed();
    return propagated_.sharding(value).closed();
  }

  // A result may have to lie otherwise than the value that it is.
  Sharding of_output(size_t number) const {
    const std::optional<Sharding>& stated = imported_.graph.outputs[number].sharding;
    if (stated && !stated->is_for(*imported_.mesh)) return stated->closed();
    const GraphOutput& output = propagated_.outputs[number];
    return output.sharding ? output.sharding->closed() : of(output.value);
  }

 private:
  const Imported& imported_;
  Graph propagated_;
};

}  // namespace

std::vector<InstructionSharding> propagate_shardings(const Imported& imported) {
  const Lyings lyings(imported);
  std::vector<InstructionSharding> result;
  for (size_t i = 0; i < imported.values.size(); ++i) {
    const auto& [name, leaves] = imported.values[i];
    InstructionSharding& entry = result.emplace_back();
    entry.instruction = name;
    entry.is_tuple = imported.is_tuple[i];
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf)
      entry.leaves.push_back(static_cast<int>(i) == imported.root ? lyings.of_output(leaf)
                                                                  : lyings.of(leaves[leaf]));
  }
  return result;
}

}  // namespace tessera::hlo
