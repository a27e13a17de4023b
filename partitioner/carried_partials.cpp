#include "partitioner/carried_partials.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

// The combiner under which the body is linear in carried value i all the way from the parameter to
// the output, with no other use; or none.
std::optional<ReduceKind> accumulates(const Graph& body, size_t i) {
  const auto uses = body.uses();
  std::map<Value, int> outputs;
  for (const GraphOutput& output : body.outputs) ++outputs[output.value];
  Value at = body.inputs[i].value;
  const Value end = body.outputs[i].value;
  std::optional<ReduceKind> kind;
  while (at != end) {
    if (uses[static_cast<size_t>(at.instruction)].size() != 1 || outputs.count(at)) return {};
    const Graph::Use use = uses[static_cast<size_t>(at.instruction)][0];
    const Instruction& user = body.instructions[static_cast<size_t>(use.user)];
    if (user.results.size() != 1 || use.result != at.result) return {};
    bool is_linear = false;
    with_call(body, user, [&](const OpCall& call) {
      for (const LinearSet& set : linear_sets(*user.op, call))
        if ((!kind || *kind == set.kind) &&
            std::count(set.operands.begin(), set.operands.end(), use.operand) == 1) {
          is_linear = true;
          kind = set.kind;
          break;
        }
    });
    if (!is_linear) return {};
    at = {use.user, 0};
  }
  if (outputs[end] != 1 || !uses[static_cast<size_t>(end.instruction)].empty()) return {};
  return kind;
}

bool is_unused(const Graph& graph, Value value) {
  for (const GraphOutput& output : graph.outputs)
    if (output.value == value) return false;
  return graph.uses()[static_cast<size_t>(value.instruction)].empty();
}

// Puts `body` and `condition` back into the loop.
void set_loop(Instruction& loop, Graph body, Graph condition) {
  loop.attributes.set(Attr::body, GraphRef(std::make_shared<const Graph>(std::move(body))));
  loop.attributes.set(Attr::condition,
                      GraphRef(std::make_shared<const Graph>(std::move(condition))));
}

Graph offer_in(const Graph& source) {
  Graph graph = source;
  for (Instruction& loop : graph.instructions) {
    if (!loop.is(ops::kWhile)) continue;
    Graph body = *loop.attributes.get<GraphRef>(Attr::body);
    Graph condition = *loop.attributes.get<GraphRef>(Attr::condition);
    bool any = false;
    for (size_t i = 0; i < body.outputs.size(); ++i) {
      const std::optional<ReduceKind> kind = accumulates(body, i);
      if (!kind || !is_unused(condition, condition.inputs[i].value)) continue;
      Sharding& demanded = *body.outputs[i].sharding;
      AxisList all;
      for (int a = 0; a < graph.mesh->rank(); ++a) all.push_back(graph.mesh->axis(a));
      demanded.partial = without(canonical(all), demanded.used_axes());
      // Axes that an enclosing manual computation has taken are not to be had.
      demanded.partial = without(demanded.partial, body.sharding(body.outputs[i].value).replicated);
      demanded.partial_kind = *kind;
      any = any || demanded.is_partial();
    }
    if (any) set_loop(loop, std::move(body), std::move(condition));
  }
  return graph;
}

}  // namespace

Graph offer_carried_partials(const Graph& graph) { return with_regions(graph, offer_in); }

Graph settle_carried_partials(const Graph& source) {
  Graph graph = source;
  for (Instruction& loop : graph.instructions) {
    if (!loop.is(ops::kWhile)) continue;
    Graph body = *loop.attributes.get<GraphRef>(Attr::body);
    Graph condition = *loop.attributes.get<GraphRef>(Attr::condition);
    std::vector<size_t> offered;
    for (size_t i = 0; i < body.outputs.size(); ++i)
      if (body.outputs[i].sharding->is_partial()) offered.push_back(i);
    if (offered.empty()) continue;
    const Graph trial = insert_reshards(body);
    for (size_t i : offered) {
      Value last = trial.outputs[i].value;
      if (trial.at(last).is(ops::kReshard)) last = trial.at(last).operands[0];
      const Sharding& natural = trial.sharding(last);
      Sharding& demanded = *body.outputs[i].sharding;
      const bool fits = natural.is_partial() && natural.partial_kind == demanded.partial_kind;
      // Only what is free of the dims' axes.
      demanded.partial = fits ? without(demanded.partial, without(demanded.partial, natural.partial))
                              : AxisList{};
      for (Graph* region : {&body, &condition}) {
        Sharding& carried = *region->info(region->inputs[i].value).sharding;
        carried.partial = demanded.partial;
        carried.partial_kind = demanded.partial_kind;
      }
    }
    set_loop(loop, std::move(body), std::move(condition));
  }
  return graph;
}

}  // namespace tessera
