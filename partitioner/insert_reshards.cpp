#include "partitioner/insert_reshards.h"

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ir/rewriter.h"
#include "core/ops/sharding.h"
#include "partitioner/op_layout.h"

namespace tessera {
namespace {

bool is_annotated(const ResultInfo& info) {
  return !info.logical_axes.empty() || !info.name.empty();
}

// A reshard of `value` of `graph` to `sharding`, in the scope of `like`.
Instruction make_reshard(const Graph& graph, Value value, const Sharding& sharding,
                         const Instruction& like) {
  Instruction reshard;
  reshard.op = &ops::kReshard;
  reshard.operands = {value};
  reshard.attributes.set(Attr::sharding, sharding.closed());
  reshard.scope = like.scope;
  reshard.recompute = like.recompute;
  ResultInfo info;
  info.type = graph.type(value);
  info.sharding = sharding.closed();
  reshard.results.push_back(std::move(info));
  return reshard;
}

Value append_reshard(GraphRewriter& rewriter, Value value, const Sharding& sharding,
                     const Instruction& like) {
  return rewriter.append(make_reshard(rewriter.result(), value, sharding, like));
}

// Adds, after every named activation, a reshard to its annotated dims. It bears the name from then
// on.
Graph add_annotated_reshards(const Graph& graph) {
  GraphRewriter rewriter(graph);
  const std::vector<std::vector<bool>> demanded = demanded_annotations(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    const Value made = rewriter.copy(static_cast<int>(i));
    if (instruction.is(ops::kParameter)) continue;
    for (size_t r = 0; r < instruction.results.size(); ++r) {
      const ResultInfo& info = instruction.results[r];
      if (!demanded[i][r]) continue;
      const Value value{made.instruction, static_cast<int>(r)};
      const Value named = append_reshard(rewriter, value, *info.sharding, instruction);
      // Open dims stay open: they are not demanded.
      rewriter.result().at(named).attributes.set(Attr::sharding, info.sharding->without_partial());
      ResultInfo& from = rewriter.result().info(value);
      ResultInfo& to = rewriter.result().info(named);
      to.name = std::exchange(from.name, "");
      to.logical_axes = std::exchange(from.logical_axes, {});
      rewriter.replace({static_cast<int>(i), static_cast<int>(r)}, named);
    }
  }
  return rewriter.finish();
}

class LayOut {
 public:
  LayOut(const Graph& source, const std::map<Value, Sharding>& resolve)
      : source_(source), resolve_(resolve), rewriter_(source) {}

  Graph run() {
    for (size_t i = 0; i < source_.instructions.size(); ++i) {
      const Instruction& instruction = source_.instructions[i];
      if (instruction.is(ops::kReshard))
        annotated_reshard(static_cast<int>(i));
      else
        append_op(static_cast<int>(i));
    }
    Graph result = rewriter_.finish();
    lay_out_outputs(result);
    return result;
  }

 private:
  void append_op(int index) {
    Instruction instruction = source_.instructions[static_cast<size_t>(index)];
    for (Value& operand : instruction.operands) operand = rewriter_.mapped(operand);
    if (!instruction.is(ops::kParameter)) {
      const OpRules rules = op_rules(rewriter_.result(), instruction);
      if (instruction.factor_axes.empty())
        instruction.factor_axes.resize(rules.factors.factors.size());
      const OpLayout layout = op_layout(rewriter_.result(), instruction, rules);
      for (size_t o = 0; o < instruction.operands.size(); ++o) {
        Value& operand = instruction.operands[o];
        if (rewriter_.result().sharding(operand).same_layout(layout.operands[o])) continue;
        const Value resharded = append_reshard(rewriter_, operand, layout.operands[o], instruction);
        for (size_t p = o + 1; p < instruction.operands.size(); ++p)  // the same value again
          if (instruction.operands[p] == operand &&
              layout.operands[p].same_layout(layout.operands[o]))
            instruction.operands[p] = resharded;
        operand = resharded;
      }
      for (size_t r = 0; r < instruction.results.size(); ++r)
        instruction.results[r].sharding = layout.results[r];
    } else {
      instruction.results[0].sharding = instruction.results[0].sharding->closed();
    }
    const Value made = rewriter_.append(std::move(instruction));
    const Instruction& like = source_.instructions[static_cast<size_t>(index)];
    for (size_t r = 0; r < like.results.size(); ++r)
      settle({index, static_cast<int>(r)}, {made.instruction, static_cast<int>(r)}, like);
  }

  // Dims as annotated; a partial stays where the dims leave room for it.
  void annotated_reshard(int index) {
    Instruction instruction = source_.instructions[static_cast<size_t>(index)];
    const Value operand = rewriter_.mapped(instruction.operands[0]);
    const Sharding now = rewriter_.result().sharding(operand);
    const Sharding wanted = constrained(now, instruction.attributes.get<Sharding>(Attr::sharding));
    Value made = operand;
    if (wanted.same_layout(now)) {
      ResultInfo& info = rewriter_.result().info(operand);
      if (info.name.empty()) info.name = instruction.results[0].name;
      if (info.logical_axes.empty()) info.logical_axes = instruction.results[0].logical_axes;
    } else {
      instruction.operands = {operand};
      instruction.results[0].sharding = wanted;
      made = rewriter_.append(instruction);
    }
    settle({index, 0}, made, instruction);
  }

  void settle(Value old_value, Value made, const Instruction& like) {
    if (const auto found = resolve_.find(old_value);
        found != resolve_.end() && !rewriter_.result().sharding(made).same_layout(found->second))
      made = append_reshard(rewriter_, made, found->second, like);
    rewriter_.replace(old_value, made);
  }

  // As demanded, else whole where it is partial.
  void lay_out_outputs(Graph& result) {
    for (GraphOutput& output : result.outputs) {
      const Sharding now = result.sharding(output.value);
      output.sharding = output.sharding ? output.sharding->closed() : now.without_partial();
      if (now.same_layout(*output.sharding)) continue;
      result.instructions.push_back(
          make_reshard(result, output.value, *output.sharding, result.at(output.value)));
      output.value = {static_cast<int>(result.instructions.size()) - 1, 0};
    }
  }

  const Graph& source_;
  const std::map<Value, Sharding>& resolve_;
  GraphRewriter rewriter_;
};

}  // namespace

Graph lay_out(const Graph& graph, const std::map<Value, Sharding>& resolve) {
  return LayOut(graph, resolve).run();
}

Graph insert_reshards(const Graph& graph) { return lay_out(add_annotated_reshards(graph), {}); }

Graph strip_reshards(const Graph& graph, std::vector<int>* map_back) {
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    if (instruction.is(ops::kReshard) && !is_annotated(instruction.results[0])) {
      rewriter.replace({static_cast<int>(i), 0}, rewriter.mapped(instruction.operands[0]));
      continue;
    }
    rewriter.copy(static_cast<int>(i));
    if (map_back) map_back->push_back(static_cast<int>(i));
  }
  return rewriter.finish();
}

}  // namespace tessera
