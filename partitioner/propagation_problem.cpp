#include "partitioner/propagation_problem.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ops/control.h"
#include "partitioner/projection.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

class Gatherer {
 public:
  Gatherer(const Graph& graph, Origins& origins) : graph_(graph), origins_(origins) {}

  PropagationProblem run() {
    gather(graph_, "", {}, {});
    join_groups();
    number_tensors();
    for (PropagationOp& op : problem_.ops) finish(op);
    return std::move(problem_);
  }

 private:
  struct Group {
    ShardingGroup::Kind kind;
    std::vector<int> members;
  };

  int add_tensor(const Graph& graph, const Place& place, const AxisList& manual) {
    const ResultInfo& info = graph.info(place.value);
    PropagationTensor tensor{{place}, graph.sharding(place.value), info.type};
    tensor.sharding.replicated = concat(tensor.sharding.replicated,
                                        without(manual, tensor.sharding.replicated));
    const int number = static_cast<int>(problem_.tensors.size());
    problem_.tensors.push_back(std::move(tensor));
    same_.push_back(number);
    note_groups(info, number);
    return number;
  }

  void note_groups(const ResultInfo& info, int tensor) {
    for (const ShardingGroup& group : info.groups) {
      const auto [found, is_new] = groups_.try_emplace(group.id, Group{group.kind, {}});
      if (found->second.kind != group.kind)
        throw_config_error("sharding group ", group.id, " is shard_as for one of its members and "
                           "shard_like for ", describe(graph_, problem_.tensors[static_cast<size_t>(tensor)].places[0]),
                           "; give them different ids");
      found->second.members.push_back(tensor);
    }
  }

  int find(int tensor) {
    while (same_[static_cast<size_t>(tensor)] != tensor) tensor = same_[static_cast<size_t>(tensor)];
    return tensor;
  }

  // Makes both one tensor; the lower number stays. What only one of them states holds for both.
  // Returns whether they do not contradict.
  bool join(int a, int b) {
    a = find(a), b = find(b);
    if (a == b) return true;
    if (a > b) std::swap(a, b);
    PropagationTensor &into = problem_.tensors[static_cast<size_t>(a)],
                      &from = problem_.tensors[static_cast<size_t>(b)];
    bool agree = true;
    for (size_t d = 0; d < into.sharding.dims.size(); ++d) {
      DimSharding &x = into.sharding.dims[d], &y = from.sharding.dims[d];
      const bool x_fits = x.axes == y.axes || (x.open && is_prefix(x.axes, y.axes));
      const bool y_fits = x.axes == y.axes || (y.open && is_prefix(y.axes, x.axes));
      agree = agree && (x_fits || y_fits);
      if (!y_fits && x_fits) x.axes = y.axes;
      x.open = x.open && y.open;
      x.priority = std::min(x.priority, y.priority);
    }
    into.sharding.replicated =
        concat(into.sharding.replicated, without(from.sharding.replicated, into.sharding.replicated));
    into.sharding.partial =
        concat(into.sharding.partial, without(from.sharding.partial, into.sharding.partial));
    into.from_activation = into.from_activation && from.from_activation;
    into.places.insert(into.places.end(), from.places.begin(), from.places.end());
    same_[static_cast<size_t>(b)] = a;
    return agree;
  }

  void gather(const Graph& graph, const std::string& path, const std::vector<int>& parameters,
              const AxisList& manual);
  void gather_regions(const Graph& graph, const std::string& path, int index,
                      const AxisList& manual);
  std::vector<int> outputs_of(const Graph& region, const std::string& path) {
    std::vector<int> outputs;
    for (const GraphOutput& output : region.outputs)
      outputs.push_back(number_of_.at(Place{output.value, path}));
    return outputs;
  }
  // A pass-through tie of tensors of one rank; sizes may differ in groups (the largest counts).
  void tie(std::vector<int> tensors, size_t operands, const Place& at, std::string edge);
  void tie_manual(int outside, int inside, const Sharding& boundary, const AxisList& manual,
                  const Place& at, const char* edge, bool is_operand);
  void join_groups();
  void number_tensors();
  void finish(PropagationOp& op);

  const Graph& graph_;
  Origins& origins_;
  PropagationProblem problem_;
  std::map<Place, int> number_of_;  // of values in regions, and all others
  std::vector<int> same_;
  std::map<int64_t, Group> groups_;
};

void Gatherer::gather(const Graph& graph, const std::string& path,
                      const std::vector<int>& parameters, const AxisList& manual) {
  std::vector<std::vector<int>> local(graph.instructions.size());
  std::vector<int> input_of(graph.instructions.size(), -1);
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    input_of[static_cast<size_t>(graph.inputs[i].value.instruction)] = static_cast<int>(i);
  const bool has_regions =
      !path.empty() ||
      std::any_of(graph.instructions.begin(), graph.instructions.end(), [](const Instruction& one) {
        return has_control_flow(one);
      });
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    const int index = static_cast<int>(i);
    for (size_t r = 0; r < instruction.results.size(); ++r) {
      const Place place{{index, static_cast<int>(r)}, path};
      const int number = add_tensor(graph, place, manual);
      local[i].push_back(number);
      if (has_regions) number_of_[place] = number;
      PropagationTensor& tensor = problem_.tensors[static_cast<size_t>(number)];
      if (!instruction.is(ops::kParameter)) continue;
      tensor.from_activation =
          !path.empty() ||
          (input_of[i] >= 0 &&
           graph.inputs[static_cast<size_t>(input_of[i])].kind == InputKind::data);
      if (input_of[i] >= 0 && static_cast<size_t>(input_of[i]) < parameters.size() &&
          parameters[static_cast<size_t>(input_of[i])] >= 0)
        join(parameters[static_cast<size_t>(input_of[i])], number);
    }
    if (instruction.is(ops::kParameter)) continue;
    if (has_control_flow(instruction)) {
      gather_regions(graph, path, index, manual);
      continue;
    }
    PropagationOp op;
    op.rule = factor_rule(graph, instruction);
    op.at = {{index, 0}, path};
    op.operands = instruction.operands.size();
    for (Value operand : instruction.operands)
      op.tensors.push_back(local[static_cast<size_t>(operand.instruction)]
                                [static_cast<size_t>(operand.result)]);
    for (int result : local[i]) op.tensors.push_back(result);
    problem_.ops.push_back(std::move(op));
  }
}

void Gatherer::gather_regions(const Graph& graph, const std::string& path, int index,
                              const AxisList& manual) {
  const Instruction& instruction = graph.instructions[static_cast<size_t>(index)];
  const Place at{{index, 0}, path};
  std::vector<int> operands, results;
  for (Value operand : instruction.operands) operands.push_back(number_of_.at({operand, path}));
  for (size_t r = 0; r < instruction.results.size(); ++r)
    results.push_back(number_of_.at({{index, static_cast<int>(r)}, path}));
  const std::vector<Region> regions = control_regions(instruction);
  const std::string edge = cat("passes through ", instruction.op->name, " %", index, " with");
  const AxisList own =
      instruction.is(ops::kManualComputation) ? instruction.attributes.get<AxisList>(Attr::axes)
                                              : AxisList{};
  const AxisList inner_manual = concat(manual, without(own, manual));
  std::vector<std::vector<int>> outputs;
  for (const Region& region : regions) {
    const std::string inner = region_path(path, index, region);
    // A carried value is one tensor, and so are the same inputs of all branches.
    std::vector<int> parameters;
    if (instruction.is(ops::kWhile)) {
      parameters = results;
    } else if (outputs.size() > 0) {
      for (const GraphInput& input : regions[0].graph->inputs)
        parameters.push_back(number_of_.at({input.value, region_path(path, index, regions[0])}));
    }
    gather(*region.graph, inner, parameters, inner_manual);
    outputs.push_back(outputs_of(*region.graph, inner));
  }
  auto input_of = [&](size_t region, size_t input) {
    return number_of_.at({regions[region].graph->inputs[input].value,
                          region_path(path, index, regions[region])});
  };
  if (instruction.is(ops::kManualComputation)) {
    const auto& in = instruction.attributes.get<Shardings>(Attr::in_shardings);
    const auto& out = instruction.attributes.get<Shardings>(Attr::out_shardings);
    for (size_t i = 0; i < operands.size(); ++i)
      tie_manual(operands[i], input_of(0, i), in[i], own, at, edge.c_str(), true);
    for (size_t r = 0; r < results.size(); ++r)
      tie_manual(results[r], outputs[0][r], out[r], own, at, edge.c_str(), false);
    return;
  }
  if (instruction.is(ops::kWhile)) {
    for (size_t r = 0; r < results.size(); ++r)
      tie({operands[r], outputs[0][r], results[r]}, 2, at, edge);
    return;
  }
  const auto first = static_cast<size_t>(first_region_operand(instruction));
  for (size_t o = first; o < operands.size(); ++o) {
    std::vector<int> together = {operands[o]};
    for (size_t b = 0; b < regions.size(); ++b) together.push_back(input_of(b, o - first));
    tie(std::move(together), 1, at, edge);
  }
  for (size_t r = 0; r < results.size(); ++r) {
    std::vector<int> together;
    for (const auto& branch : outputs) together.push_back(branch[r]);
    together.push_back(results[r]);
    const size_t sources = together.size() - 1;
    tie(std::move(together), sources, at, edge);
  }
}

void Gatherer::tie(std::vector<int> tensors, size_t operands, const Place& at, std::string edge) {
  PropagationOp op;
  op.at = at;
  op.edge = std::move(edge);
  op.operands = operands;
  TensorFactors dims;
  const int rank = problem_.tensors[static_cast<size_t>(tensors[0])].type.rank();
  for (int d = 0; d < rank; ++d) {
    int64_t size = 0;
    for (int tensor : tensors)
      size = std::gcd(size, problem_.tensors[static_cast<size_t>(tensor)].type.shape[d]);
    dims.push_back({op.rule.add(size)});
  }
  for (size_t t = 0; t < tensors.size(); ++t)
    (t < operands ? op.rule.operands : op.rule.results).push_back(dims);
  op.tensors = std::move(tensors);
  problem_.ops.push_back(std::move(op));
}

// Outside a dim is (manual part, rest), inside it is the rest.
void Gatherer::tie_manual(int outside, int inside, const Sharding& boundary, const AxisList& manual,
                          const Place& at, const char* edge, bool is_operand) {
  PropagationOp op;
  op.at = at;
  op.edge = edge;
  op.operands = 1;
  TensorFactors whole, local;
  const TensorType& type = problem_.tensors[static_cast<size_t>(inside)].type;
  Sharding& own = problem_.tensors[static_cast<size_t>(find(inside))].sharding;
  for (int d = 0; d < type.rank(); ++d) {
    const DimSharding& dim = boundary.dims[static_cast<size_t>(d)];
    const AxisList taken = manual_part(dim.axes, manual);
    whole.emplace_back();
    if (!taken.empty()) whole.back().push_back(op.rule.add(size_of(taken), FactorKind::need_replication));
    const int rest = op.rule.add(type.shape[d]);
    whole.back().push_back(rest);
    local.push_back({rest});
    // Outside nothing better can be wished for than the manual axes at the major end.
    PropagationTensor& outer = problem_.tensors[static_cast<size_t>(find(outside))];
    DimSharding& outer_dim = outer.sharding.dims[static_cast<size_t>(d)];
    if (outer_dim.open && outer_dim.axes.empty() && !taken.empty() &&
        !overlaps(outer.sharding.used_axes(), taken) &&
        !overlaps(outer.sharding.replicated, taken)) {
      outer_dim.axes = taken;
      origins_.add(outer.places[0], {d, taken, cat("manual_computation %", at.value.instruction,
                                                   " demands it")});
    }
    // What the boundary says of the other axes holds inside.
    DimSharding& inner = own.dims[static_cast<size_t>(d)];
    if (inner.axes.empty()) inner.axes = without(dim.axes, manual);
    if (!dim.open) inner.open = false;
  }
  op.rule.operands = {is_operand ? whole : local};
  op.rule.results = {is_operand ? local : whole};
  op.tensors = is_operand ? std::vector<int>{outside, inside} : std::vector<int>{inside, outside};
  problem_.ops.push_back(std::move(op));
}

void Gatherer::join_groups() {
  for (auto& [id, group] : groups_) {
    const PropagationTensor& first = problem_.tensors[static_cast<size_t>(group.members[0])];
    const Place first_place = first.places[0];
    const TensorType first_type = first.type;
    for (size_t m = 1; m < group.members.size(); ++m) {
      const int member = group.members[m];
      const PropagationTensor& other = problem_.tensors[static_cast<size_t>(member)];
      const Place other_place = other.places[0];
      const TensorType other_type = other.type;
      const bool is_as = group.kind == ShardingGroup::Kind::as;
      if (is_as ? !(other_type.shape == first_type.shape)
                : other_type.rank() != first_type.rank())
        throw_config_error("sharding group ", id, " (", is_as ? "shard_as" : "shard_like", ") has ",
                           describe(graph_, first_place), " of ", first_type, " and ",
                           describe(graph_, other_place), " of ", other_type, "; its members must have ",
                           is_as ? "one shape" : "one rank");
      const Sharding one = problem_.tensors[static_cast<size_t>(find(group.members[0]))].sharding;
      const Sharding two = problem_.tensors[static_cast<size_t>(find(member))].sharding;
      if (is_as && !join(group.members[0], member))
        throw_config_error("sharding group ", id, " (shard_as) contradicts itself: ",
                           describe(graph_, first_place), " is demanded ", one, ", ",
                           describe(graph_, other_place), " ", two,
                           "; annotate one of them, or use shard_like");
    }
    if (group.kind == ShardingGroup::Kind::like && group.members.size() > 1)
      tie(group.members, 1, problem_.tensors[static_cast<size_t>(group.members[0])].places[0],
          cat("is in group ", id, " with"));
  }
}

// Closes the gaps that joining left.
void Gatherer::number_tensors() {
  std::vector<int> number(problem_.tensors.size(), -1);
  std::vector<PropagationTensor> kept;
  for (size_t t = 0; t < problem_.tensors.size(); ++t)
    if (find(static_cast<int>(t)) == static_cast<int>(t)) {
      number[t] = static_cast<int>(kept.size());
      kept.push_back(std::move(problem_.tensors[t]));
    }
  for (PropagationOp& op : problem_.ops)
    for (int& tensor : op.tensors) tensor = number[static_cast<size_t>(find(tensor))];
  for (const PropagationTensor& tensor : kept)
    for (size_t p = 1; p < tensor.places.size(); ++p)
      origins_.merge(tensor.places[p], tensor.places[0]);
  problem_.tensors = std::move(kept);
  problem_.ops_of.resize(problem_.tensors.size());
  for (size_t o = 0; o < problem_.ops.size(); ++o) {
    const PropagationOp& op = problem_.ops[o];
    for (size_t t = 0; t < op.tensors.size(); ++t) {
      const auto tensor = static_cast<size_t>(op.tensors[t]);
      if (t < op.operands) ++problem_.tensors[tensor].users;
      std::vector<int>& list = problem_.ops_of[tensor];
      if (list.empty() || list.back() != static_cast<int>(o)) list.push_back(static_cast<int>(o));
    }
  }
}

void Gatherer::finish(PropagationOp& op) {
  if (!op.edge.empty()) return;
  const FactorRule& rule = op.rule;
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
    if (rule.factors[f].kind == FactorKind::reduction) op.is_pass_through = false;
    if (rule.factors[f].kind != FactorKind::pass_through) continue;
    if (operands != with_dims(rule.operands) || results != with_dims(rule.results))
      op.is_pass_through = false;
    if (operands == 0 && op.operands > 0) op.is_broadcast = true;
  }
  for (size_t o = 0; o < op.operands; ++o)
    if (problem_.tensors[static_cast<size_t>(op.tensors[o])].users > 1) op.is_single_use = false;
}

}  // namespace

PropagationProblem propagation_problem(const Graph& graph, Origins& origins) {
  return Gatherer(graph, origins).run();
}

}  // namespace tessera
