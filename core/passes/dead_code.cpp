#include "core/passes/dead_code.h"

#include <algorithm>
#include <memory>
#include <set>

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

class Pruned;

// What the wanted values of a graph need, and what those need. More may be wanted later.
class Needs {
 public:
  explicit Needs(const Graph& graph);
  ~Needs();
  void want(Value value) {
    std::vector<bool>& used = used_[static_cast<size_t>(value.instruction)];
    if (used[static_cast<size_t>(value.result)]) return;
    used[static_cast<size_t>(value.result)] = true;
    open_.insert(value.instruction);
  }
  void follow();

  bool is_used(Value value) const {
    return used_[static_cast<size_t>(value.instruction)][static_cast<size_t>(value.result)];
  }
  bool is_live(size_t i) const {
    return std::find(used_[i].begin(), used_[i].end(), true) != used_[i].end();
  }
  // Of control flow that is live; null otherwise.
  const Pruned* pruned(size_t i) const { return pruned_[i].get(); }

 private:
  const Graph& graph_;
  std::vector<std::vector<bool>> used_;  // by instruction and result
  std::vector<std::unique_ptr<Pruned>> pruned_;
  std::set<int> open_;  // instructions with results newly wanted
};

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
    const std::vector<bool> tested = used_inputs(verdict);
    for (size_t i = 0; i < tested.size(); ++i)
      if (tested[i]) live[i] = true;
    Needs needs(body);
    for (Numbers kept; kept != true_numbers(live);) {
      kept = true_numbers(live);
      for (int i : kept) needs.want(body.outputs[static_cast<size_t>(i)].value);
      needs.follow();
      for (size_t i = 0; i < live.size(); ++i)
        if (needs.is_used(body.inputs[i].value)) live[i] = true;
    }
    operands_ = results_ = true_numbers(live);
    attributes_ = it_.attributes;
    attributes_.set(Attr::condition, cut(verdict, operands_, {0}));
    attributes_.set(Attr::body, cut(with_outputs(body, results_), operands_, numbers(results_.size())));
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

Needs::Needs(const Graph& graph) : graph_(graph), pruned_(graph.instructions.size()) {
  for (const Instruction& instruction : graph.instructions)
    used_.emplace_back(instruction.results.size(), false);
}

Needs::~Needs() = default;

// From the end: of control flow all results that are wanted are known by then, but for those that are
// wanted later.
void Needs::follow() {
  while (!open_.empty()) {
    const auto i = static_cast<size_t>(*open_.rbegin());
    open_.erase(std::prev(open_.end()));
    const Instruction& instruction = graph_.instructions[i];
    if (!has_control_flow(instruction)) {
      for (Value operand : instruction.operands) want(operand);
      continue;
    }
    pruned_[i] = std::make_unique<Pruned>(instruction, used_[i]);
    for (int operand : pruned_[i]->operands()) want(instruction.operands[static_cast<size_t>(operand)]);
  }
}

}  // namespace

Graph eliminate_dead_code(const Graph& graph) {
  Needs needs(graph);
  for (const GraphInput& input : graph.inputs) needs.want(input.value);
  for (const GraphOutput& output : graph.outputs) needs.want(output.value);
  needs.follow();
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const int index = static_cast<int>(i);
    if (!needs.is_live(i)) continue;
    const Pruned* pruned = needs.pruned(i);
    if (!pruned) {
      rewriter.copy(index);
      continue;
    }
    Instruction instruction = pruned->instruction();
    for (Value& operand : instruction.operands) operand = rewriter.mapped(operand);
    const Value made = rewriter.append(std::move(instruction));
    for (size_t r = 0; r < pruned->results().size(); ++r)
      rewriter.replace({index, pruned->results()[r]}, {made.instruction, static_cast<int>(r)});
  }
  return rewriter.finish();
}

}  // namespace tessera
