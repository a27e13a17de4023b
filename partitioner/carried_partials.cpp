#include "partitioner/carried_partials.h"

#include <algorithm>
#include <functional>

#include "core/base/error.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/regions.h"
#include "partitioner/uses.h"

namespace tessera {
namespace {

// The combiner under which the body is linear in carried value i all the way from the parameter to
// the output, with no other use; or none.
std::optional<ReduceKind> accumulates(const Graph& body, size_t i) {
  const Uses uses(body);
  Value at = body.inputs[i].value;
  const Value end = body.outputs[i].value;
  std::optional<ReduceKind> kind;
  while (at != end) {
    if (!uses.has_one_use(at)) return {};
    const Graph::Use use = uses.of(at.instruction)[0];
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
  const auto is_end = [&](const GraphOutput& output) { return output.value == end; };
  if (std::count_if(body.outputs.begin(), body.outputs.end(), is_end) != 1) return {};
  return uses.of(end.instruction).empty() ? kind : std::nullopt;
}

bool is_unused(const Graph& graph, Value value) {
  const Uses uses(graph);
  return !uses.is_output(value) && uses.of(value.instruction).empty();
}

// Sets the lying of carried values in copies of a loop's regions. Returns whether it changed any.
using LoopEdit = std::function<bool(Graph& body, Graph& condition)>;

Graph with_loops(const Graph& source, const LoopEdit& edit) {
  Graph graph = source;
  for (Instruction& loop : graph.instructions) {
    if (!loop.is(ops::kWhile)) continue;
    Graph body = *loop.attributes.get<GraphRef>(Attr::body);
    Graph condition = *loop.attributes.get<GraphRef>(Attr::condition);
    if (!edit(body, condition)) continue;
    loop.attributes.set(Attr::body, GraphRef(std::make_shared<const Graph>(std::move(body))));
    loop.attributes.set(Attr::condition,
                        GraphRef(std::make_shared<const Graph>(std::move(condition))));
  }
  return graph;
}

bool offer(Graph& body, const Graph& condition) {
  bool any = false;
  for (size_t i = 0; i < body.outputs.size(); ++i) {
    const std::optional<ReduceKind> kind = accumulates(body, i);
    if (!kind || !is_unused(condition, condition.inputs[i].value)) continue;
    Sharding& demanded = *body.outputs[i].sharding;
    AxisList all;
    for (int a = 0; a < body.mesh->rank(); ++a) all.push_back(body.mesh->axis(a));
    demanded.partial = without(canonical(all), demanded.used_axes());
    // Axes that an enclosing manual computation has taken are not to be had.
    demanded.partial = without(demanded.partial, body.sharding(body.outputs[i].value).replicated);
    demanded.partial_kind = *kind;
    any = any || demanded.is_partial();
  }
  return any;
}

bool settle(Graph& body, Graph& condition) {
  std::vector<size_t> offered;
  for (size_t i = 0; i < body.outputs.size(); ++i)
    if (body.outputs[i].sharding->is_partial()) offered.push_back(i);
  if (offered.empty()) return false;
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
  return true;
}

}  // namespace

Graph offer_carried_partials(const Graph& graph) {
  return with_regions(graph, [](const Graph& each) { return with_loops(each, offer); });
}

Graph settle_carried_partials(const Graph& graph) { return with_loops(graph, settle); }

}  // namespace tessera
