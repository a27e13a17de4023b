#include "core/passes/loop_invariants.h"

#include <map>

#include "core/ir/parameter.h"
#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"

namespace tessera {
namespace {

bool exchanges(const Instruction& instruction) {
  if (instruction.op->communicates) return true;
  for (const Region& region : control_regions(instruction))
    for (const Instruction& inner : region.graph->instructions)
      if (exchanges(inner)) return true;
  return false;
}

// Splits the body of one loop into what is computed before it and what stays.
class Hoist {
 public:
  Hoist(const Graph& body, const LoopInvariantOptions& options)
      : body_(body), known_(body.instructions.size(), false), moves_(known_), options_(options) {
    for (size_t i = 0; i < body.inputs.size(); ++i)
      if (body.outputs[i].value == body.inputs[i].value)
        known_[static_cast<size_t>(body.inputs[i].value.instruction)] = true;
    for (size_t i = 0; i < body.instructions.size(); ++i) visit(i);
    find_carried();
  }

  bool is_idle() const { return carried_.empty(); }
  // Values of the body that are computed before the loop and carried through it.
  const std::vector<Value>& carried() const { return carried_; }

  // Appends what moves to the builder; `operands` are those of the loop.
  std::vector<Value> write_before(GraphRewriter& rewriter, const std::vector<Value>& operands) const {
    std::map<int, Value> made;
    for (size_t i = 0; i < body_.inputs.size(); ++i)
      made[body_.inputs[i].value.instruction] = operands[i];
    auto mapped = [&](Value value) {
      const Value first = made.at(value.instruction);
      return body_.at(value).is(ops::kParameter) ? first : Value{first.instruction, value.result};
    };
    for (size_t i = 0; i < body_.instructions.size(); ++i) {
      if (!known_[i] || body_.instructions[i].is(ops::kParameter)) continue;
      Instruction copy = body_.instructions[i];
      for (Value& operand : copy.operands) operand = mapped(operand);
      made[static_cast<int>(i)] = rewriter.append(std::move(copy));
    }
    std::vector<Value> values;
    for (Value value : carried_) values.push_back(mapped(value));
    return values;
  }

  Graph rest() const {
    GraphRewriter rewriter(body_);
    std::vector<Value> added;
    for (size_t c = 0; c < carried_.size(); ++c) {
      const ResultInfo& info = body_.info(carried_[c]);
      const Value input = rewriter.builder().input(InputKind::data, cat("invariant", c), info.type,
                                                   info.logical_axes);
      // The builder numbers inputs by those there are; here they come behind the body's own.
      rewriter.result().at(input).attributes.set(Attr::index,
                                                 static_cast<int64_t>(body_.inputs.size() + c));
      rewriter.result().info(input).sharding = info.sharding;
      added.push_back(input);
      rewriter.replace(carried_[c], input);
    }
    const std::vector<GraphInput> own = std::exchange(rewriter.result().inputs, {});
    for (size_t i = 0; i < body_.instructions.size(); ++i)
      if (!moves_[i]) rewriter.copy(static_cast<int>(i));
    Graph rest = rewriter.finish();
    for (size_t c = 0; c < added.size(); ++c) {
      rest.inputs.push_back(own[c]);
      rest.outputs.push_back({added[c], cat("invariant", c), -1, rest.info(added[c]).sharding});
    }
    return rest;
  }

 private:
  void visit(size_t i) {
    const Instruction& it = body_.instructions[i];
    if (it.op->has_state || it.recompute || it.is(ops::kOptimizationBarrier) || exchanges(it)) return;
    for (Value operand : it.operands)
      if (!known_[static_cast<size_t>(operand.instruction)]) return;
    int64_t bytes = 0;
    for (const ResultInfo& result : it.results) bytes += result.type.bytes();
    // What has no operands is free: it may be copied out, and stays as well.
    if (!it.operands.empty()) {
      if (bytes_ + bytes > options_.most_bytes) return;
      bytes_ += bytes;
      moves_[i] = true;
    }
    known_[i] = true;
  }

  void find_carried() {
    std::map<Value, bool> wanted;
    auto want = [&](Value value) {
      if (moves_[static_cast<size_t>(value.instruction)]) wanted[value] = true;
    };
    for (size_t i = 0; i < body_.instructions.size(); ++i)
      if (!moves_[i])
        for (Value operand : body_.instructions[i].operands) want(operand);
    for (const GraphOutput& output : body_.outputs) want(output.value);
    for (const auto& [value, is_wanted] : wanted) carried_.push_back(value);
  }

  const Graph& body_;
  std::vector<bool> known_, moves_;
  const LoopInvariantOptions& options_;
  int64_t bytes_ = 0;
  std::vector<Value> carried_;
};

GraphRef with_more_inputs(const Graph& graph, const Graph& like) {
  Graph wider = graph;
  Builder builder(wider);
  for (size_t i = graph.inputs.size(); i < like.inputs.size(); ++i) {
    const ResultInfo& info = like.info(like.inputs[i].value);
    const Value input = builder.input(InputKind::data, info.name, info.type, info.logical_axes);
    wider.info(input).sharding = info.sharding;
  }
  return std::make_shared<const Graph>(std::move(wider));
}

Graph hoist_from_own_loops(const Graph& graph, const LoopInvariantOptions& options) {
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const int index = static_cast<int>(i);
    Instruction loop = graph.instructions[i];
    if (!loop.is(ops::kWhile)) {
      rewriter.copy(index);
      continue;
    }
    const GraphRef body = loop.attributes.get<GraphRef>(Attr::body);
    for (Value& operand : loop.operands) operand = rewriter.mapped(operand);
    const std::vector<Value> operands = loop.operands;
    const Hoist hoist(*body, options);
    if (!hoist.is_idle()) {
      const std::vector<Value> before = hoist.write_before(rewriter, operands);
      for (Value value : before) {
        ResultInfo info = rewriter.result().info(value);
        info.name.clear();
        info.groups.clear();
        loop.operands.push_back(value);
        loop.results.push_back(std::move(info));
      }
      Graph rest = hoist.rest();
      loop.attributes.set(Attr::condition,
                          with_more_inputs(*loop.attributes.get<GraphRef>(Attr::condition), rest));
      loop.attributes.set(Attr::body, std::make_shared<const Graph>(std::move(rest)));
      loop.factor_axes.clear();
    }
    const Value made = rewriter.append(std::move(loop));
    for (size_t r = 0; r < operands.size(); ++r) {
      const bool is_invariant = body->outputs[r].value == body->inputs[r].value;
      rewriter.replace({index, static_cast<int>(r)},
                       is_invariant ? operands[r] : Value{made.instruction, static_cast<int>(r)});
    }
  }
  return rewriter.finish();
}

}  // namespace

Graph hoist_loop_invariants(const Graph& graph, const LoopInvariantOptions& options) {
  return with_regions(graph,
                      [&](const Graph& source) { return hoist_from_own_loops(source, options); });
}

}  // namespace tessera
