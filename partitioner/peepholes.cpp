#include "partitioner/peepholes.h"

#include <map>
#include <tuple>

#include "core/base/error.h"
#include "core/ir/rewriter.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "partitioner/use_patterns.h"

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

Graph move_reshards_past_converts(const Graph& graph) {
  const auto uses = graph.uses();
  std::map<Value, int> output_uses;
  for (const GraphOutput& output : graph.outputs) ++output_uses[output.value];
  auto only_user = [&](int index) {
    return uses[static_cast<size_t>(index)].size() == 1 && output_uses.count({index, 0}) == 0;
  };
  auto bytes_of = [&](Value value) { return size_of(graph.type(value).dtype); };
  GraphRewriter rewriter(graph);
  std::map<int, int> delayed;  // convert -> the reshard before it, done after it
  auto append_swapped = [&](const Instruction& convert, const Instruction& reshard, Value source) {
    // convert(source) in the lying of source, then the reshard of the converted value.
    Instruction first = convert, second = reshard;
    first.operands = {source};
    first.results[0].sharding = rewriter.result().sharding(source);
    first.factor_axes.clear();
    for (int d = 0; d < first.results[0].type.rank(); ++d)
      if (first.results[0].type.shape[d] > 1)
        first.factor_axes.push_back(first.results[0].sharding->dims[static_cast<size_t>(d)].axes);
    first.results[0].name.clear();
    first.results[0].logical_axes.clear();
    second.operands = {rewriter.append(std::move(first))};
    second.results[0].type = convert.results[0].type;
    second.results[0].name =
        reshard.results[0].name.empty() ? convert.results[0].name : reshard.results[0].name;
    second.results[0].logical_axes = convert.results[0].logical_axes.empty()
                                         ? reshard.results[0].logical_axes
                                         : convert.results[0].logical_axes;
    return rewriter.append(std::move(second));
  };
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    const int index = static_cast<int>(i);
    const bool is_partial = !instruction.operands.empty() && instruction.is(ops::kReshard) &&
                            graph.sharding(instruction.operands[0]).is_partial();
    if (instruction.is(ops::kReshard) && !is_partial && enlarges(graph, instruction) &&
        only_user(index)) {
      const Graph::Use use = uses[i][0];
      const Instruction& user = graph.instructions[static_cast<size_t>(use.user)];
      if (user.is(ops::kConvert) && bytes_of({use.user, 0}) < bytes_of({index, 0}) &&
          instruction.results[0].name.empty()) {
        delayed[use.user] = index;
        continue;
      }
    }
    if (const auto found = delayed.find(index); found != delayed.end()) {
      const Instruction& reshard = graph.instructions[static_cast<size_t>(found->second)];
      rewriter.replace({index, 0},
                       append_swapped(instruction, reshard, rewriter.mapped(reshard.operands[0])));
      continue;
    }
    rewriter.copy(index);
  }
  return rewriter.finish();
}

Graph make_reduce_scatters(const Graph& graph) {
  const auto uses = graph.uses();
  std::map<Value, int> output_uses;
  for (const GraphOutput& output : graph.outputs) ++output_uses[output.value];
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& reduce = graph.instructions[i];
    const int index = static_cast<int>(i);
    bool fits =
        reduce.is(ops::kAllReduce) && !uses[i].empty() && output_uses.count({index, 0}) == 0;
    for (const Graph::Use& use : uses[i]) {
      if (!fits) break;
      const Instruction& user = graph.instructions[static_cast<size_t>(use.user)];
      const Instruction& first = graph.instructions[static_cast<size_t>(uses[i][0].user)];
      fits =
          user.is(ops::kAllSlice) && user.attributes == first.attributes &&
          user.recompute == reduce.recompute &&
          user.attributes.get<AxisList>(Attr::axes) == reduce.attributes.get<AxisList>(Attr::axes);
    }
    if (!fits) {
      if (!rewriter.has({index, 0})) rewriter.copy(index);
      continue;
    }
    const Instruction& slice = graph.instructions[static_cast<size_t>(uses[i][0].user)];
    Instruction scatter = slice;
    scatter.op = &ops::kReduceScatter;
    scatter.operands = {rewriter.mapped(reduce.operands[0])};
    scatter.attributes.set(Attr::reduce_kind, reduce.attributes.get<ReduceKind>(Attr::reduce_kind));
    const Value made = rewriter.append(std::move(scatter));
    for (const Graph::Use& use : uses[i]) rewriter.replace({use.user, 0}, made);
  }
  return rewriter.finish();
}

}  // namespace tessera
