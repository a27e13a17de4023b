#include "partitioner/reshards_to_collectives.h"

#include "core/base/error.h"
#include "core/ir/rewriter.h"
#include "core/ops/sharding.h"

namespace tessera {
namespace {

// The op and attributes of a move that leaves `kind`-partial values behind or resolves them.
void set_op(Instruction& instruction, const ReshardMove& move, ReduceKind kind) {
  Attributes& attributes = instruction.attributes;
  attributes.set(Attr::axes, move.axes);
  switch (move.kind) {
    case MoveKind::slice:
      instruction.op = &ops::kAllSlice;
      attributes.set(Attr::dimension, int64_t{move.dim});
      break;
    case MoveKind::all_gather:
      instruction.op = &ops::kAllGather;
      attributes.set(Attr::dimension, int64_t{move.dim});
      break;
    case MoveKind::all_to_all:
      instruction.op = &ops::kAllToAll;
      attributes.set(Attr::split_dimension, int64_t{move.dim});
      attributes.set(Attr::concat_dimension, int64_t{move.concat_dim});
      break;
    case MoveKind::permute:
      instruction.op = &ops::kCollectivePermute;
      attributes.set(Attr::target_axes, move.target_axes);
      break;
    case MoveKind::all_reduce:
      instruction.op = &ops::kAllReduce;
      attributes.set(Attr::reduce_kind, kind);
      break;
    case MoveKind::reduce_scatter:
      instruction.op = &ops::kReduceScatter;
      attributes.set(Attr::dimension, int64_t{move.dim});
      attributes.set(Attr::reduce_kind, kind);
      break;
    case MoveKind::replicated_to_partial:
      instruction.op = &ops::kReplicatedToPartial;
      attributes.set(Attr::reduce_kind, kind);
      break;
  }
}

}  // namespace

Graph reshards_to_collectives(const Graph& graph, ReshardPlanner& planner) {
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& reshard = graph.instructions[i];
    if (!reshard.is(ops::kReshard)) {
      rewriter.copy(static_cast<int>(i));
      continue;
    }
    const ResultInfo& result = reshard.results[0];
    Value at = rewriter.mapped(reshard.operands[0]);
    Sharding now = rewriter.result().sharding(at);
    const ReshardPlan& plan = planner.plan(now, *result.sharding, {result.type.dtype, result.stored_shape()});
    for (const ReshardMove& move : plan.moves) {
      Instruction step;
      const bool makes = move.kind == MoveKind::replicated_to_partial;
      set_op(step, move, makes ? move.result.partial_kind : now.partial_kind);
      step.operands = {at};
      step.scope = reshard.scope;
      step.recompute = reshard.recompute;
      step.results.push_back({.type = result.type, .sharding = move.result});
      step.results[0].padded_shape = result.padded_shape;
      if (&move == &plan.moves.back()) {
        step.results[0].name = result.name;
        step.results[0].logical_axes = result.logical_axes;
      }
      at = rewriter.append(std::move(step));
      now = move.result;
    }
    rewriter.replace({static_cast<int>(i), 0}, at);
  }
  return rewriter.finish();
}

}  // namespace tessera
