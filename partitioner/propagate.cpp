#include "partitioner/propagate.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "partitioner/projection.h"
#include "partitioner/propagation_problem.h"

namespace tessera {
namespace {

constexpr int kLevels = 5;

// One operand or result of the op under work.
struct Side {
  int tensor = -1;
  const TensorFactors* factors = nullptr;
  bool is_result = false;
  FactorAxes axes;  // what is visible at the current priority
  int64_t bytes = 0;
};

class Propagator {
 public:
  Propagator(const Graph& graph, Origins& origins, const MachineModel& machine)
      : graph_(graph),
        origins_(origins),
        machine_(machine),
        problem_(propagation_problem(graph, origins)) {}

  PropagateResult run() {
    tie_outputs();
    std::set<int> priorities = {0};
    for (const PropagationTensor& tensor : problem_.tensors)
      for (const DimSharding& dim : tensor.sharding.dims) priorities.insert(dim.priority);
    for (int priority : priorities)
      for (int level = 0; level < kLevels; ++level) {
        priority_ = priority;
        level_ = level;
        contested_.clear();
        sweep(false, all_eligible());
        sweep(true, contested_);
      }
    PropagateResult result;
    result.graph = graph_;
    write_back(problem_, result.graph);
    // What overwrites an input with open dims lies as that came to lie.
    for (GraphOutput& output : result.graph.outputs) {
      if (output.alias_input < 0 || !output.sharding) continue;
      const Value input = result.graph.inputs[static_cast<size_t>(output.alias_input)].value;
      if (const Sharding& now = result.graph.sharding(input); !now.same_layout(*output.sharding))
        output.sharding = now;
    }
    for (auto& [key, conflict] : conflicts_) result.conflicts.push_back(std::move(conflict));
    std::stable_sort(result.conflicts.begin(), result.conflicts.end(),
                     [](const Conflict& a, const Conflict& b) { return a.bytes > b.bytes; });
    result.steps = steps_;
    return result;
  }

 private:
  const PropagationOp& op_at(int op) const { return problem_.ops[static_cast<size_t>(op)]; }
  PropagationTensor& tensor_at(int tensor) {
    return problem_.tensors[static_cast<size_t>(tensor)];
  }
  void tie_outputs();
  std::set<int> all_eligible() const {
    std::set<int> all;
    for (size_t i = 0; i < problem_.ops.size(); ++i)
      if (is_eligible(static_cast<int>(i))) all.insert(all.end(), static_cast<int>(i));
    return all;
  }
  bool is_eligible(int index) const {
    const PropagationOp& op = op_at(index);
    if (op.rule.factors.empty()) return false;
    if (level_ == 0) return op.is_pass_through && op.is_single_use;
    return level_ > 1 || op.is_pass_through;
  }
  bool may_propagate(int factor, const PropagationOp& op) const {
    switch (op.rule.factors[static_cast<size_t>(factor)].kind) {
      case FactorKind::pass_through:
        return true;
      case FactorKind::permutation:
        return level_ >= 2;
      case FactorKind::reduction:
        return level_ >= 3;
      case FactorKind::need_replication:
        return false;
    }
    return false;
  }

  // Works through the set from the front, adding neighbours of what grew.
  void sweep(bool is_aggressive, std::set<int> queue);
  // Some tensor has axes, and some has a dim that may take more.
  bool can_change(int op);
  std::vector<Side> sides_of(int op);
  void basic_step(int op, std::vector<Side>& sides);
  void aggressive_step(int op, std::vector<Side>& sides);
  AxisList agreed_axes(int op, int factor, const std::vector<Side>& sides);
  // Appends to the tensor's dim what of `wanted` is new, legal and free. True if it grew.
  bool extend(int op, int factor, Side& side, const AxisList& wanted, const Side& source);
  bool may_flow(const PropagationOp& op, const Side& source, const Side& target) const {
    // Broadcasts run forward only at the last level.
    return level_ == kLevels - 1 || !op.is_broadcast || (source.is_result && !target.is_result);
  }
  void record_conflict(int op, const std::vector<Side>& sides);

  const Graph& graph_;
  Origins& origins_;
  const MachineModel& machine_;
  PropagationProblem problem_;
  std::vector<int> grown_;
  std::set<int> contested_;
  std::map<int, Conflict> conflicts_;  // by op: of several contested factors all is said at once
  int priority_ = 0, level_ = 0;
  int64_t steps_ = 0;
};

// An output that overwrites an input starts with the input's axes on its open dims.
void Propagator::tie_outputs() {
  std::map<Value, int> outputs;
  for (const GraphOutput& output : graph_.outputs)
    if (output.sharding) outputs[output.value] = -1;
  for (size_t t = 0; t < problem_.tensors.size(); ++t)
    for (const Place& place : problem_.tensors[t].places)
      if (place.region.empty())
        if (const auto found = outputs.find(place.value); found != outputs.end())
          found->second = static_cast<int>(t);
  for (const GraphOutput& output : graph_.outputs) {
    if (!output.sharding) continue;
    PropagationTensor& tensor = tensor_at(outputs.at(output.value));
    Sharding& own = tensor.sharding;
    for (int d = 0; d < own.rank(); ++d) {
      DimSharding& dim = own.dims[static_cast<size_t>(d)];
      const AxisList& wanted = output.sharding->dims[static_cast<size_t>(d)].axes;
      if (!dim.open || !dim.axes.empty() || wanted.empty() || overlaps(own.used_axes(), wanted) ||
          overlaps(own.replicated, wanted))
        continue;
      dim.axes = wanted;
      tensor.from_activation = false;
      Origin origin{d, wanted};
      if (output.alias_input >= 0)
        origin.source = graph_.inputs[static_cast<size_t>(output.alias_input)].value;
      else
        origin.rule = cat("output \"", output.name, "\" demands it");
      origins_.add(tensor.places[0], std::move(origin));
    }
  }
}

void Propagator::sweep(bool is_aggressive, std::set<int> queue) {
  while (!queue.empty()) {
    const int op = *queue.begin();
    queue.erase(queue.begin());
    ++steps_;
    if (!can_change(op)) continue;
    std::vector<Side> sides = sides_of(op);
    grown_.clear();
    is_aggressive ? aggressive_step(op, sides) : basic_step(op, sides);
    for (int tensor : grown_)
      for (int neighbour : problem_.ops_of[static_cast<size_t>(tensor)])
        if (neighbour != op && is_eligible(neighbour)) queue.insert(neighbour);
  }
}

bool Propagator::can_change(int op) {
  bool has_axes = false, has_room = false;
  for (int tensor : op_at(op).tensors)
    for (const DimSharding& dim : tensor_at(tensor).sharding.dims) {
      has_axes = has_axes || !dim.axes.empty();
      has_room = has_room || dim.open;
    }
  return has_axes && has_room;
}

std::vector<Side> Propagator::sides_of(int index) {
  const PropagationOp& op = op_at(index);
  std::vector<Side> sides;
  for (size_t t = 0; t < op.tensors.size(); ++t) {
    const bool is_result = t >= op.operands;
    const TensorFactors& factors =
        is_result ? op.rule.results[t - op.operands] : op.rule.operands[t];
    const PropagationTensor& tensor = tensor_at(op.tensors[t]);
    Side side{op.tensors[t], &factors, is_result, {}, tensor.type.bytes()};
    const bool hides =
        std::any_of(tensor.sharding.dims.begin(), tensor.sharding.dims.end(),
                    [&](const DimSharding& dim) { return dim.priority > priority_; });
    if (hides) {
      Sharding visible = tensor.sharding;
      for (DimSharding& dim : visible.dims)
        if (dim.priority > priority_) dim.axes.clear();
      side.axes = project(op.rule, factors, visible);
    } else {
      side.axes = project(op.rule, factors, tensor.sharding);
    }
    sides.push_back(std::move(side));
  }
  return sides;
}

bool Propagator::extend(int index, int factor, Side& side, const AxisList& wanted,
                        const Side& source) {
  const PropagationOp& op = op_at(index);
  const FactorRule& rule = op.rule;
  const int d = dim_of_factor(*side.factors, factor);
  if (d < 0 || !may_flow(op, source, side)) return false;
  const AxisList& have = side.axes[static_cast<size_t>(factor)];
  if (!is_prefix(have, wanted)) return false;
  PropagationTensor& tensor = tensor_at(side.tensor);
  Sharding& sharding = tensor.sharding;
  DimSharding& dim = sharding.dims[static_cast<size_t>(d)];
  if (!dim.open || dim.priority > priority_) return false;
  AxisList taken = sharding.used_axes();
  taken.insert(taken.end(), sharding.replicated.begin(), sharding.replicated.end());
  AxisList more = prefix_without(suffix_after(wanted, have), taken);
  // The dims that share a permutation factor may differ in size: what is taken must suit this one.
  const bool is_permutation =
      rule.factors[static_cast<size_t>(factor)].kind == FactorKind::permutation;
  // Axes that do not divide come from an annotation, and go on as they are.
  const AxisList taken_whole = is_permutation
                                   ? dividing_prefix(concat(have, more), tensor.type.shape[d])
                                   : allowed_prefix(rule, factor, concat(have, more));
  if (!is_prefix(have, taken_whole)) return false;
  more = suffix_after(taken_whole, have);
  if (more.empty()) return false;
  // The dim must now read, factor by factor, exactly what it has plus `more` at the minor end.
  FactorAxes axes = side.axes;
  axes[static_cast<size_t>(factor)] = concat(have, more);
  if (!is_expressible(rule, *side.factors, axes)) return false;
  const AxisList grown =
      unproject(graph_.mesh, *side.factors, axes).dims[static_cast<size_t>(d)].axes;
  if (grown != concat(dim.axes, more)) return false;
  dim.axes = grown;
  side.axes = std::move(axes);
  tensor.from_activation = tensor_at(source.tensor).from_activation;
  Origin origin{d, more, "", tensor_at(source.tensor).places[0]};
  origin.region = op.at.region;
  origin.instruction = op.at.value.instruction;
  origin.factor = factor;
  origin.edge = op.edge;
  origins_.add(tensor.places[0], std::move(origin));
  grown_.push_back(side.tensor);
  return true;
}

// The longest list that no tensor of the op contradicts, along this factor or by using the axes for
// another one.
AxisList Propagator::agreed_axes(int op, int factor, const std::vector<Side>& sides) {
  AxisList agreed;
  bool contested = false;
  for (const Side& side : sides) {
    const AxisList& own = side.axes[static_cast<size_t>(factor)];
    if (own.empty()) continue;
    if (agreed.empty() || is_prefix(agreed, own)) {
      agreed = own;
    } else if (!is_prefix(own, agreed)) {
      agreed = common_prefix(agreed, own);
      contested = true;
      if (agreed.empty()) break;
    }
  }
  for (const Side& side : sides)
    for (size_t g = 0; g < side.axes.size(); ++g) {
      if (static_cast<int>(g) == factor || side.axes[g].empty()) continue;
      AxisList free_part = prefix_without(agreed, side.axes[g]);
      contested = contested || free_part != agreed;
      agreed = std::move(free_part);
    }
  if (contested) {
    contested_.insert(op);
    record_conflict(op, sides);
  }
  return agreed;
}

void Propagator::basic_step(int index, std::vector<Side>& sides) {
  const PropagationOp& op = op_at(index);
  for (size_t f = 0; f < op.rule.factors.size(); ++f) {
    const int factor = static_cast<int>(f);
    if (!may_propagate(factor, op)) continue;
    const AxisList agreed = agreed_axes(index, factor, sides);
    if (agreed.empty()) continue;
    for (Side& target : sides) {
      if (dim_of_factor(*target.factors, factor) < 0) continue;
      for (size_t s = 0; s < sides.size(); ++s) {
        if (&sides[s] == &target || !is_prefix(agreed, sides[s].axes[f])) continue;
        if (extend(index, factor, target, agreed, sides[s])) break;
      }
    }
  }
}

void Propagator::aggressive_step(int index, std::vector<Side>& sides) {
  const PropagationOp& op = op_at(index);
  struct Offer {
    int factor;
    size_t source;
    bool from_activation;
    int64_t bytes;
    double seconds;  // of gathering the source over these axes
  };
  std::vector<Offer> offers;
  for (size_t f = 0; f < op.rule.factors.size(); ++f)
    for (size_t s = 0; s < sides.size(); ++s) {
      const AxisList& axes = sides[s].axes[f];
      if (!may_propagate(static_cast<int>(f), op) || axes.empty()) continue;
      const Link link = machine_.link(*graph_.mesh, axes);
      offers.push_back({static_cast<int>(f), s, tensor_at(sides[s].tensor).from_activation,
                        sides[s].bytes,
                        link.latency + static_cast<double>(sides[s].bytes) / link.bandwidth});
    }
  // Stored tensors (parameters) can always be gathered for the op; activations come first.
  std::stable_sort(offers.begin(), offers.end(), [](const Offer& a, const Offer& b) {
    if (a.from_activation != b.from_activation) return a.from_activation;
    if (a.bytes != b.bytes) return a.bytes > b.bytes;
    if (a.seconds != b.seconds) return a.seconds > b.seconds;
    return a.source != b.source ? a.source < b.source : a.factor < b.factor;
  });
  for (Side& target : sides)
    for (const Offer& offer : offers)
      if (&sides[offer.source] != &target)
        extend(index, offer.factor, target,
               sides[offer.source].axes[static_cast<size_t>(offer.factor)], sides[offer.source]);
}

void Propagator::record_conflict(int index, const std::vector<Side>& sides) {
  const PropagationOp& op = op_at(index);
  Conflict& conflict = conflicts_[index];
  conflict = {op.at.value.instruction, "", 0, op.at.region, {}};
  for (const Side& side : sides)
    if (std::any_of(side.axes.begin(), side.axes.end(),
                    [](const AxisList& axes) { return !axes.empty(); })) {
      const PropagationTensor& tensor = tensor_at(side.tensor);
      conflict.text += cat(conflict.text.empty() ? "" : "; ", describe(graph_, tensor.places[0]),
                           " lies ", tensor.sharding);
      conflict.bytes = std::max(conflict.bytes, side.bytes);
      conflict.places.push_back(tensor.places[0]);
    }
}

}  // namespace

PropagateResult propagate(const Graph& graph, Origins& origins, const MachineModel& machine) {
  return Propagator(graph, origins, machine).run();
}

}  // namespace tessera
