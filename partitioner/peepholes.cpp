#include "partitioner/peepholes.h"

#include <map>
#include <tuple>

#include "core/base/error.h"
#include "core/ir/rewriter.h"
#include "core/ops/sharding.h"
#include "partitioner/use_patterns.h"
#include "partitioner/uses.h"

namespace tessera {
namespace {

// Makes the shard larger.
bool enlarges(const Graph& graph, const Instruction& reshard) {
  auto parts = [](const Sharding& sharding) {
    return size_of(sharding.without_partial().used_axes());
  };
  return parts(*reshard.results[0].sharding) < parts(graph.sharding(reshard.operands[0]));
}

}  // namespace

Graph merge_reshards(const Graph& graph) {
  GraphRewriter rewriter(graph);
  std::map<std::tuple<Value, std::string, bool, bool>, Value> known;
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    if (!instruction.is(ops::kReshard)) {
      rewriter.copy(static_cast<int>(i));
      continue;
    }
    const bool phase = enlarges(graph, instruction) && is_backward(instruction);
    const auto key =
        std::tuple(rewriter.mapped(instruction.operands[0]),
                   cat(instruction.results[0].sharding->closed()), instruction.recompute, phase);
    if (const auto found = known.find(key); found != known.end())
      rewriter.replace({static_cast<int>(i), 0}, found->second);
    else
      known.emplace(key, rewriter.copy(static_cast<int>(i)));
  }
  return rewriter.finish();
}

Graph make_reduce_scatters(const Graph& graph) {
  const Uses readers(graph);
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& reduce = graph.instructions[i];
    const int index = static_cast<int>(i);
    const std::vector<Graph::Use>& uses = readers.of(index);
    bool fits = reduce.is(ops::kAllReduce) && !uses.empty() && !readers.is_output({index, 0});
    for (const Graph::Use& use : uses) {
      if (!fits) break;
      const Instruction& user = graph.instructions[static_cast<size_t>(use.user)];
      const Instruction& first = graph.instructions[static_cast<size_t>(uses[0].user)];
      fits =
          user.is(ops::kAllSlice) && user.attributes == first.attributes &&
          user.recompute == reduce.recompute &&
          user.attributes.get<AxisList>(Attr::axes) == reduce.attributes.get<AxisList>(Attr::axes);
    }
    if (!fits) {
      if (!rewriter.has({index, 0})) rewriter.copy(index);
      continue;
    }
    const Instruction& slice = graph.instructions[static_cast<size_t>(uses[0].user)];
    Instruction scatter = slice;
    scatter.op = &ops::kReduceScatter;
    scatter.operands = {rewriter.mapped(reduce.operands[0])};
    scatter.attributes.set(Attr::reduce_kind, reduce.attributes.get<ReduceKind>(Attr::reduce_kind));
    const Value made = rewriter.append(std::move(scatter));
    for (const Graph::Use& use : uses) rewriter.replace({use.user, 0}, made);
  }
  return rewriter.finish();
}

}  // namespace tessera
