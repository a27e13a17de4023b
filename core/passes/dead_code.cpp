#include "core/passes/dead_code.h"

#include <algorithm>

#include "core/ir/parameter.h"
#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"

namespace tessera {
namespace {

using Numbers = std::vector<int>;

Numbers numbers(size_t count) {
  Numbers all(count);
  for (size_t i = 0; i < count; ++i) all[i] = static_cast<int>(i);
  return all;
}

template <typename T>
std::vector<T> pick(const std::vector<T>& from, const Numbers& which) {
  std::vector<T> picked;
  for (int i : which) picked.push_back(from[static_cast<size_t>(i)]);
  return picked;
}

// All inputs, these outputs, and only what they need.
Graph with_outputs(const Graph& graph, const Numbers& outputs) {
  return eliminate_dead_code(with_boundary(graph, numbers(graph.inputs.size()), outputs));
}

std::vector<bool> used_inputs(const Graph& graph) {
  std::vector<bool> used(graph.instructions.size(), false);
  for (const Instruction& instruction : graph.instructions)
    for (Value operand : instruction.operands) used[static_cast<size_t>(operand.instruction)] = true;
  for (const GraphOutput& output : graph.outputs)
    used[static_cast<size_t>(output.value.instruction)] = true;
  std::vector<bool> inputs;
  for (const GraphInput& input : graph.inputs)
    inputs.push_back(used[static_cast<size_t>(input.value.instruction)]);
  return inputs;
}

Numbers true_numbers(const std::vector<bool>& flags) {
  Numbers numbers;
  for (size_t i = 0; i < flags.size(); ++i)
    if (flags[i]) numbers.push_back(static_cast<int>(i));
  return numbers;
}

GraphRef cut(const Graph& graph, const Numbers& inputs, const Numbers& outputs) {
  return std::make_shared<const Graph>(with_boundary(graph, inputs, outputs));
}

// An instruction with regions, of which only some results are used.
class Pruned {
 public:
  Pruned(const Instruction& instruction, const std::vector<bool>& used) : it_(instruction) {
    results_ = true_numbers(used);
    if (it_.is(ops::kWhile)) prune_while(used);
    else if (it_.is(ops::kCase)) prune_case();
    else if (it_.attributes.has(Attr::callee)) prune_callee();
    else operands_ = numbers(it_.operands.size()), results_ = numbers(it_.results.size());
  }

  const Numbers& operands() const { return operands_; }
  const Numbers& results() const { return results_; }
  Instruction instruction() const {
    Instruction pruned = it_;
    pruned.attributes = attributes_.entries().empty() ? it_.attributes : attributes_;
    pruned.operands = pick(it_.operands, operands_);
    pruned.results = pick(it_.results, results_);
    return pruned;
  }

 private:
  // What a live carried value is computed from is live in the turn before.
  void prune_while(std::vector<bool> live) {
    const Graph &condition = *it_.attributes.get<GraphRef>(Attr::condition),
                &body = *it_.attributes.get<GraphRef>(Attr::body);
    const Graph verdict = with_outputs(condition, {0});
    auto mark = [&](const Graph& graph) {
      const std::vector<bool> inputs = used_inputs(graph);
      for (size_t i = 0; i < inputs.size(); ++i)
        if (inputs[i]) live[i] = true;
    };
    mark(verdict);
    Graph turn;
    for (Numbers kept; kept != true_numbers(live);) {
      kept = true_numbers(live);
      turn = with_outputs(body, kept);
      mark(turn);
    }
    operands_ = results_ = true_numbers(live);
    attributes_ = it_.attributes;
    attributes_.set(Attr::condition, cut(verdict, operands_, {0}));
    attributes_.set(Attr::body, cut(turn, operands_, numbers(results_.size())));
  }

  void prune_case() {
    std::vector<Graph> branches;
    std::vector<bool> used(it_.operands.size() - 1, false);
    for (const GraphRef& branch : it_.attributes.get<Graphs>(Attr::branches)) {
      branches.push_back(with_outputs(*branch, results_));
      const std::vector<bool> inputs = used_inputs(branches.back());
      for (size_t i = 0; i < used.size(); ++i) used[i] = used[i] || inputs[i];
    }
    Graphs kept;
    for (const Graph& branch : branches)
      kept.push_back(cut(branch, true_numbers(used), numbers(results_.size())));
    attributes_ = it_.attributes;
    attributes_.set(Attr::branches, std::move(kept));
    operands_ = {0};
    for (int i : true_numbers(used)) operands_.push_back(i + 1);
  }

  void prune_callee() {
    const Graph callee = with_outputs(*it_.attributes.get<GraphRef>(Attr::callee), results_);
    operands_ = true_numbers(used_inputs(callee));
    attributes_ = it_.attributes;
    attributes_.set(Attr::callee, cut(callee, operands_, numbers(results_.size())));
    if (!attributes_.has(Attr::in_shardings)) return;
    const auto in = it_.attributes.get<Shardings>(Attr::in_shardings);
    const auto out = it_.attributes.get<Shardings>(Attr::out_shardings);
    attributes_.set(Attr::in_shardings, pick(in, operands_));
    attributes_.set(Attr::out_shardings, pick(out, results_));
  }

  const Instruction& it_;
  Attributes attributes_;
  Numbers operands_, results_;
};

}  // namespace

Graph eliminate_dead_code(const Graph& graph) {
  std::vector<std::vector<bool>> used;  // by instruction and result
  for (const Instruction& instruction : graph.instructions)
    used.emplace_back(instruction.results.size(), false);
  auto mark = [&](Value value) {
    used[static_cast<size_t>(value.instruction)][static_cast<size_t>(value.result)] = true;
  };
  for (const GraphInput& input : graph.inputs) mark(input.value);
  for (const GraphOutput& output : graph.outputs) mark(output.value);
  auto is_live = [&](size_t i) { return std::find(used[i].begin(), used[i].end(), true) != used[i].end(); };
  std::vector<std::unique_ptr<Pruned>> pruned(graph.instructions.size());
  for (size_t i = graph.instructions.size(); i-- > 0;) {
    const Instruction& instruction = graph.instructions[i];
    if (!is_live(i)) continue;
    if (!has_control_flow(instruction)) {
      for (Value operand : instruction.operands) mark(operand);
      continue;
    }
    pruned[i] = std::make_unique<Pruned>(instruction, used[i]);
    for (int operand : pruned[i]->operands()) mark(instruction.operands[static_cast<size_t>(operand)]);
  }
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const int index = static_cast<int>(i);
    if (!is_live(i)) continue;
    if (!pruned[i]) {
      rewriter.copy(index);
      continue;
    }
    Instruction instruction = pruned[i]->instruction();
    for (Value& operand : instruction.operands) operand = rewriter.mapped(operand);
    const Value made = rewriter.append(std::move(instruction));
    for (size_t r = 0; r < pruned[i]->results().size(); ++r)
      rewriter.replace({index, pruned[i]->results()[r]}, {made.instruction, static_cast<int>(r)});
  }
  return rewriter.finish();
}

}  // namespace tessera
