#include "partitioner/propagate.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "partitioner/projection.h"

namespace tessera {
namespace {

constexpr int kLevels = 5;

// What is fixed about an op during propagation.
struct OpFacts {
  FactorRule rule;
  bool is_pass_through = true;  // every factor is in every tensor that has dims
  bool is_broadcast = false;    // a result has a factor that no operand has
  bool is_single_use = true;    // no operand has a second user
};

// One operand or result of the op under work.
struct Tensor {
  Value value;
  const TensorFactors* factors = nullptr;
  bool is_result = false;
  FactorAxes axes;  // what is visible at the current priority
  int64_t bytes = 0;
};

class Propagator {
 public:
  Propagator(const Graph& graph, Origins& origins)
      : graph_(graph), origins_(origins), uses_(graph.uses()) {
    for (const Instruction& instruction : graph.instructions)
      facts_.push_back(facts_of(instruction));
    from_activation_.resize(graph.instructions.size());
    for (size_t i = 0; i < graph.instructions.size(); ++i)
      from_activation_[i].assign(graph.instructions[i].results.size(),
                                 !graph.instructions[i].is(ops::kParameter));
    for (const GraphInput& input : graph.inputs)
      from_activation_[static_cast<size_t>(input.value.instruction)][0] =
          input.kind == InputKind::data;
  }

  PropagateResult run() {
    tie_outputs();
    std::set<int> priorities = {0};
    for (const Instruction& instruction : graph_.instructions)
      for (const ResultInfo& result : instruction.results)
        for (const DimSharding& dim : result.sharding->dims) priorities.insert(dim.priority);
    for (int priority : priorities)
      for (int level = 0; level < kLevels; ++level) {
        priority_ = priority;
        level_ = level;
        contested_.clear();
        sweep(false, all_eligible());
        sweep(true, contested_);
      }
    std::vector<Conflict> conflicts;
    for (auto& [key, conflict] : conflicts_) conflicts.push_back(std::move(conflict));
    std::stable_sort(conflicts.begin(), conflicts.end(),
                     [](const Conflict& a, const Conflict& b) { return a.bytes > b.bytes; });
    return {std::move(graph_), std::move(conflicts), steps_};
  }

 private:
  OpFacts facts_of(const Instruction& instruction) const;
  void tie_outputs();
  std::set<int> all_eligible() const {
    std::set<int> all;
    for (size_t i = 0; i < facts_.size(); ++i)
      if (is_eligible(static_cast<int>(i))) all.insert(all.end(), static_cast<int>(i));
    return all;
  }
  bool is_eligible(int instruction) const {
    const OpFacts& facts = facts_[static_cast<size_t>(instruction)];
    if (facts.rule.factors.empty()) return false;
    if (level_ == 0) return facts.is_pass_through && facts.is_single_use;
    return level_ > 1 || facts.is_pass_through;
  }
  bool may_propagate(int factor, const OpFacts& facts) const {
    const FactorKind kind = facts.rule.factors[static_cast<size_t>(factor)].kind;
    return kind == FactorKind::pass_through || (kind == FactorKind::reduction && level_ >= 3);
  }

  // Works through the set from the front, adding neighbours of what grew.
  void sweep(bool is_aggressive, std::set<int> queue);
  // Some tensor has axes, and some has a dim that may take more.
  bool can_change(int instruction) const;
  std::vector<Tensor> tensors_of(int instruction) const;
  void basic_step(int instruction, std::vector<Tensor>& tensors);
  void aggressive_step(int instruction, std::vector<Tensor>& tensors);
  AxisList agreed_axes(int instruction, int factor, const std::vector<Tensor>& tensors);
  // Appends to the tensor's dim what of `wanted` is new, legal and free. True if it grew.
  bool extend(int instruction, int factor, Tensor& tensor, const AxisList& wanted,
              const Tensor& source);
  bool may_flow(int instruction, const Tensor& source, const Tensor& target) const {
    // Broadcasts run forward only at the last level.
    return level_ == kLevels - 1 || !facts_[static_cast<size_t>(instruction)].is_broadcast ||
           (source.is_result && !target.is_result);
  }
  void record_conflict(int instruction, int factor, const std::vector<Tensor>& tensors);
  // vector<bool>: its references are objects of their own.
  std::vector<bool>::reference rooted_in_activation(Value value) {
    return from_activation_[static_cast<size_t>(value.instruction)]
                           [static_cast<size_t>(value.result)];
  }

  Graph graph_;
  Origins& origins_;
  std::vector<std::vector<Graph::Use>> uses_;
  std::vector<OpFacts> facts_;
  std::vector<std::vector<bool>> from_activation_;
  std::vector<Value> grown_;
  std::set<int> contested_;
  std::map<std::pair<int, int>, Conflict> conflicts_;
  int priority_ = 0, level_ = 0;
  int64_t steps_ = 0;
};

OpFacts Propagator::facts_of(const Instruction& instruction) const {
  OpFacts facts;
  facts.rule = factor_rule(graph_, instruction);
  const FactorRule& rule = facts.rule;
  auto count_with = [](const std::vector<TensorFactors>& tensors, int factor) {
    size_t count = 0;
    for (const TensorFactors& tensor : tensors) count += dim_of_factor(tensor, factor) >= 0;
    return count;
  };
  auto with_dims = [](const std::vector<TensorFactors>& tensors) {
    return static_cast<size_t>(
        std::count_if(tensors.begin(), tensors.end(), [](const TensorFactors& tensor) {
          return std::any_of(tensor.begin(), tensor.end(),
                             [](const auto& dim) { return !dim.empty(); });
        }));
  };
  for (size_t f = 0; f < rule.factors.size(); ++f) {
    const size_t operands = count_with(rule.operands, static_cast<int>(f));
    const size_t results = count_with(rule.results, static_cast<int>(f));
    if (rule.factors[f].kind == FactorKind::reduction) facts.is_pass_through = false;
    if (rule.factors[f].kind != FactorKind::pass_through) continue;
    if (operands != with_dims(rule.operands) || results != with_dims(rule.results))
      facts.is_pass_through = false;
    if (operands == 0 && !instruction.operands.empty()) facts.is_broadcast = true;
  }
  for (Value operand : instruction.operands)
    if (uses_[static_cast<size_t>(operand.instruction)].size() > 1) facts.is_single_use = false;
  return facts;
}

// An output that overwrites an input starts with the input's axes on its open dims.
void Propagator::tie_outputs() {
  for (const GraphOutput& output : graph_.outputs) {
    if (!output.sharding) continue;
    Sharding& own = *graph_.info(output.value).sharding;
    for (int d = 0; d < own.rank(); ++d) {
      DimSharding& dim = own.dims[static_cast<size_t>(d)];
      const AxisList& wanted = output.sharding->dims[static_cast<size_t>(d)].axes;
      if (!dim.open || !dim.axes.empty() || wanted.empty() || overlaps(own.used_axes(), wanted))
        continue;
      dim.axes = wanted;
      rooted_in_activation(output.value) = false;
      origins_.add(
          output.value,
          {d, wanted, output.alias_input >= 0 ? "" : cat("output \"", output.name, "\" demands it"),
           output.alias_input >= 0 ? graph_.inputs[static_cast<size_t>(output.alias_input)].value
                                   : Value{},
           -1, -1});
    }
  }
}

void Propagator::sweep(bool is_aggressive, std::set<int> queue) {
  while (!queue.empty()) {
    const int instruction = *queue.begin();
    queue.erase(queue.begin());
    ++steps_;
    if (!can_change(instruction)) continue;
    std::vector<Tensor> tensors = tensors_of(instruction);
    grown_.clear();
    is_aggressive ? aggressive_step(instruction, tensors) : basic_step(instruction, tensors);
    for (Value value : grown_) {
      auto enter = [&](int neighbour) {
        if (neighbour != instruction && is_eligible(neighbour)) queue.insert(neighbour);
      };
      enter(value.instruction);
      for (const Graph::Use& use : uses_[static_cast<size_t>(value.instruction)])
        if (use.result == value.result) enter(use.user);
    }
  }
}

bool Propagator::can_change(int index) const {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  bool has_axes = false, has_room = false;
  auto look = [&](const ResultInfo& info) {
    for (const DimSharding& dim : info.sharding->dims) {
      has_axes = has_axes || !dim.axes.empty();
      has_room = has_room || dim.open;
    }
  };
  for (Value operand : instruction.operands) look(graph_.info(operand));
  for (const ResultInfo& result : instruction.results) look(result);
  return has_axes && has_room;
}

std::vector<Tensor> Propagator::tensors_of(int index) const {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  const FactorRule& rule = facts_[static_cast<size_t>(index)].rule;
  std::vector<Tensor> tensors;
  auto add = [&](Value value, const TensorFactors& factors, bool is_result) {
    const ResultInfo& info = graph_.info(value);
    Tensor tensor{value, &factors, is_result, {}, info.type.bytes()};
    const bool hides =
        std::any_of(info.sharding->dims.begin(), info.sharding->dims.end(),
                    [&](const DimSharding& dim) { return dim.priority > priority_; });
    if (hides) {
      Sharding visible = *info.sharding;
      for (DimSharding& dim : visible.dims)
        if (dim.priority > priority_) dim.axes.clear();
      tensor.axes = project(rule, factors, visible);
    } else {
      tensor.axes = project(rule, factors, *info.sharding);
    }
    tensors.push_back(std::move(tensor));
  };
  for (size_t o = 0; o < instruction.operands.size(); ++o)
    add(instruction.operands[o], rule.operands[o], false);
  for (size_t r = 0; r < instruction.results.size(); ++r)
    add({index, static_cast<int>(r)}, rule.results[r], true);
  return tensors;
}

bool Propagator::extend(int instruction, int factor, Tensor& tensor, const AxisList& wanted,
                        const Tensor& source) {
  const FactorRule& rule = facts_[static_cast<size_t>(instruction)].rule;
  const int d = dim_of_factor(*tensor.factors, factor);
  if (d < 0 || !may_flow(instruction, source, tensor)) return false;
  const AxisList& have = tensor.axes[static_cast<size_t>(factor)];
  if (!is_prefix(have, wanted)) return false;
  ResultInfo& info = graph_.info(tensor.value);
  Sharding& sharding = *info.sharding;
  DimSharding& dim = sharding.dims[static_cast<size_t>(d)];
  if (!dim.open || dim.priority > priority_) return false;
  AxisList taken = sharding.used_axes();
  taken.insert(taken.end(), sharding.replicated.begin(), sharding.replicated.end());
  AxisList more = prefix_without(suffix_after(wanted, have), taken);
  more = suffix_after(
      dividing_prefix(concat(have, more), rule.factors[static_cast<size_t>(factor)].size), have);
  if (more.empty()) return false;
  // The dim must now read, factor by factor, exactly what it has plus `more` at the minor end.
  FactorAxes axes = tensor.axes;
  axes[static_cast<size_t>(factor)] = concat(have, more);
  if (!is_expressible(rule, *tensor.factors, axes)) return false;
  const AxisList grown =
      unproject(graph_.mesh, *tensor.factors, axes).dims[static_cast<size_t>(d)].axes;
  if (grown != concat(dim.axes, more)) return false;
  dim.axes = grown;
  tensor.axes = std::move(axes);
  rooted_in_activation(tensor.value) = static_cast<bool>(rooted_in_activation(source.value));
  origins_.add(tensor.value, {d, more, "", source.value, instruction, factor});
  grown_.push_back(tensor.value);
  return true;
}

// The longest list that no tensor of the op contradicts, along this factor or by using the axes for
// another one.
AxisList Propagator::agreed_axes(int instruction, int factor, const std::vector<Tensor>& tensors) {
  AxisList agreed;
  bool contested = false;
  for (const Tensor& tensor : tensors) {
    const AxisList& own = tensor.axes[static_cast<size_t>(factor)];
    if (own.empty()) continue;
    if (agreed.empty() || is_prefix(agreed, own)) {
      agreed = own;
    } else if (!is_prefix(own, agreed)) {
      agreed = common_prefix(agreed, own);
      contested = true;
      if (agreed.empty()) break;
    }
  }
  for (const Tensor& tensor : tensors)
    for (size_t g = 0; g < tensor.axes.size(); ++g) {
      if (static_cast<int>(g) == factor || tensor.axes[g].empty()) continue;
      AxisList free_part = prefix_without(agreed, tensor.axes[g]);
      contested = contested || free_part != agreed;
      agreed = std::move(free_part);
    }
  if (contested) {
    contested_.insert(instruction);
    record_conflict(instruction, factor, tensors);
  }
  return agreed;
}

void Propagator::basic_step(int instruction, std::vector<Tensor>& tensors) {
  const OpFacts& facts = facts_[static_cast<size_t>(instruction)];
  for (size_t f = 0; f < facts.rule.factors.size(); ++f) {
    const int factor = static_cast<int>(f);
    if (!may_propagate(factor, facts)) continue;
    const AxisList agreed = agreed_axes(instruction, factor, tensors);
    if (agreed.empty()) continue;
    for (Tensor& target : tensors) {
      if (dim_of_factor(*target.factors, factor) < 0) continue;
      for (size_t s = 0; s < tensors.size(); ++s) {
        if (&tensors[s] == &target || !is_prefix(agreed, tensors[s].axes[f])) continue;
        if (extend(instruction, factor, target, agreed, tensors[s])) break;
      }
    }
  }
}

void Propagator::aggressive_step(int instruction, std::vector<Tensor>& tensors) {
  const OpFacts& facts = facts_[static_cast<size_t>(instruction)];
  struct Offer {
    int factor;
    size_t source;
  };
  std::vector<Offer> offers;
  for (size_t f = 0; f < facts.rule.factors.size(); ++f)
    for (size_t s = 0; s < tensors.size(); ++s)
      if (may_propagate(static_cast<int>(f), facts) && !tensors[s].axes[f].empty())
        offers.push_back({static_cast<int>(f), s});
  // Stored tensors (parameters) can always be gathered for the op; activations come first.
  std::stable_sort(offers.begin(), offers.end(), [&](const Offer& a, const Offer& b) {
    const bool a_rooted = rooted_in_activation(tensors[a.source].value);
    const bool b_rooted = rooted_in_activation(tensors[b.source].value);
    if (a_rooted != b_rooted) return a_rooted;
    if (tensors[a.source].bytes != tensors[b.source].bytes)
      return tensors[a.source].bytes > tensors[b.source].bytes;
    return a.source != b.source ? a.source < b.source : a.factor < b.factor;
  });
  for (Tensor& target : tensors)
    for (const Offer& offer : offers)
      if (&tensors[offer.source] != &target)
        extend(instruction, offer.factor, target,
               tensors[offer.source].axes[static_cast<size_t>(offer.factor)],
               tensors[offer.source]);
}

void Propagator::record_conflict(int instruction, int factor, const std::vector<Tensor>& tensors) {
  Conflict& conflict = conflicts_[{instruction, factor}];
  conflict = {instruction, "", 0};
  for (const Tensor& tensor : tensors)
    if (std::any_of(tensor.axes.begin(), tensor.axes.end(),
                    [](const AxisList& axes) { return !axes.empty(); })) {
      conflict.text += cat(conflict.text.empty() ? "" : "; ", describe(graph_, tensor.value),
                           " lies ", graph_.sharding(tensor.value));
      conflict.bytes = std::max(conflict.bytes, tensor.bytes);
    }
}

}  // namespace

PropagateResult propagate(const Graph& graph, Origins& origins) {
  return Propagator(graph, origins).run();
}

}  // namespace tessera
