#include "core/passes/join_updates.h"

#include <algorithm>
#include <optional>

#include "core/ir/regions.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/structure.h"
#include "core/passes/kernel_accepts.h"
#include "core/passes/merge_instructions.h"
#include "core/passes/ordered_rewriter.h"

namespace tessera {
namespace {

using Members = std::vector<int>;  // instructions, in program order

// Whether none of its operands is among those that depend.
bool is_free(const Graph& graph, int index, const std::vector<bool>& depends) {
  const std::vector<Value>& operands = graph.instructions[static_cast<size_t>(index)].operands;
  return std::none_of(operands.begin(), operands.end(),
                      [&](Value operand) { return depends[static_cast<size_t>(operand.instruction)]; });
}

// Instructions that may become one, group by group.
class Groups {
 public:
  explicit Groups(const Graph& graph) : graph_(graph), uses_(graph.uses()) {
    for (int i = 0; i < static_cast<int>(graph.instructions.size()); ++i) {
      if (at(i).is(ops::kAdamW)) add(i, [&](const Members& group) { return is_open_update(group, i); });
      if (at(i).is(ops::kSumOfSquares)) add(i, [&](const Members& group) { return is_open_sum(group, i); });
    }
  }

  // Those of several members, none of which depends on another.
  std::vector<Members> several() const {
    std::vector<Members> found;
    for (const Members& group : groups_) {
      if (group.size() < 2) continue;
      const std::vector<bool> depends = depending(graph_, group, group.back());
      Members free;
      for (const int member : group)
        if (is_free(graph_, member, depends)) free.push_back(member);
      if (free.size() > 1) found.push_back(std::move(free));
    }
    return found;
  }

 private:
  const Instruction& at(int i) const { return graph_.instructions[static_cast<size_t>(i)]; }

  // To the first group that is open for it, else to a new one.
  template <typename IsOpen>
  void add(int index, IsOpen&& is_open) {
    for (Members& group : groups_)
      if (at(group.front()).op == at(index).op && at(group.front()).recompute == at(index).recompute &&
          is_open(group))
        return group.push_back(index);
    groups_.push_back({index});
  }

  // ---- Updates

  static std::vector<Value> scalars_of(const Instruction& adamw) {
    const size_t count = adamw.attributes.has(Attr::seed) ? 5 : 4;
    return {adamw.operands.begin() + 4, adamw.operands.begin() + 4 + static_cast<std::ptrdiff_t>(count)};
  }
  static bool same_rule(const Instruction& a, const Instruction& b) {
    for (Attr key : {Attr::beta1, Attr::beta2, Attr::epsilon, Attr::seed}) {
      const AttrValue *of_a = a.attributes.find(key), *of_b = b.attributes.find(key);
      if ((of_a == nullptr) != (of_b == nullptr) || (of_a != nullptr && *of_a != *of_b)) return false;
    }
    for (size_t r = 0; r < a.results.size(); ++r)
      if (a.results[r].type.dtype != b.results[r].type.dtype) return false;
    return scalars_of(a) == scalars_of(b);
  }
  bool is_read(int update) const { return !uses_[static_cast<size_t>(update)].empty(); }
  int64_t bytes_of(const Members& updates) const {
    int64_t bytes = 0;
    for (const int update : updates) bytes += at(update).results[0].type.bytes();
    return bytes;
  }
  bool is_open_update(const Members& group, int index) const {
    const int first = group.front();
    return same_rule(at(first), at(index)) && is_read(first) == is_read(index) &&
           (!is_read(index) || bytes_of(group) < kReadGroupBytes);
  }

  // ---- Sums of squares

  // The collective that made the value or what it is a part of; -1: none.
  int collective_of(Value value) const {
    while (true) {
      const Instruction& maker = graph_.at(value);
      if (maker.op->communicates) return value.instruction;
      const bool hands_on = maker.is(ops::kReshape) || maker.is(ops::kSlice) || maker.is(ops::kTranspose);
      if (!hands_on) return -1;
      value = maker.operands[0];
    }
  }
  // What is summed must be there already where the group stands.
  bool is_open_sum(const Members& group, int index) const {
    const Value mine = at(index).operands[0], first = at(group.front()).operands[0];
    return graph_.type(mine).dtype == graph_.type(first).dtype && collective_of(mine) == collective_of(first) &&
           mine.instruction < group.front();
  }

  const Graph& graph_;
  std::vector<std::vector<Graph::Use>> uses_;
  std::vector<Members> groups_;
};

class Joiner {
 public:
  Joiner(const Graph& graph, Members members)
      : graph_(graph), members_(std::move(members)), joined_(at(members_[0])) {
    joined_.factor_axes.clear();
    joined_.operands.clear();
    joined_.results.clear();
    for (const int member : members_)
      for (const ResultInfo& result : at(member).results) joined_.results.push_back(result);
    if (joined_.is(ops::kAdamW))
      join_updates();
    else
      join_sums();
  }

  bool is_accepted(const KernelTable& kernels) const {
    return kernel_accepts(kernels, *joined_.op, graph_.operand_types(joined_), joined_.attributes);
  }

  Merge merge() const {
    Merge merge{members_, joined_, {}};
    for (const int member : members_)
      for (int r = 0; r < static_cast<int>(at(member).results.size()); ++r) merge.stands_for.push_back({member, r});
    return merge;
  }

 private:
  const Instruction& at(int i) const { return graph_.instructions[static_cast<size_t>(i)]; }

  void take(const Instruction& from, size_t begin, size_t end) {
    joined_.operands.insert(joined_.operands.end(), from.operands.begin() + static_cast<std::ptrdiff_t>(begin),
                            from.operands.begin() + static_cast<std::ptrdiff_t>(end));
  }

  void join_updates() {
    const Attributes& first = at(members_[0]).attributes;
    const size_t own = first.has(Attr::seed) ? 9 : 8;
    std::vector<double> decays;
    Ints sites, strides, starts;
    for (const int member : members_) {
      take(at(member), 0, 4);
      decays.push_back(at(member).attributes.number(Attr::weight_decay));
    }
    take(at(members_[0]), 4, own);
    joined_.op = &ops::kMultiAdamW;
    joined_.attributes = {};
    for (Attr key : {Attr::beta1, Attr::beta2, Attr::epsilon}) joined_.attributes.set(key, first.number(key));
    joined_.attributes.set(Attr::weight_decays, std::make_shared<const HostTensor>(HostTensor::of<double>(
                                                    {static_cast<int64_t>(decays.size())}, decays)));
    if (!first.has(Attr::seed)) return;
    for (const int member : members_) {
      const Instruction& update = at(member);
      take(update, own, update.operands.size());
      sites.push_back(update.attributes.integer(Attr::seed_site));
      starts.push_back(static_cast<int64_t>(update.operands.size() - own));
      const Ints each = with_call(graph_, update, [](const OpCall& call) {
        return ops::adamw_layout(call).tensors[0].strides;
      });
      strides.insert(strides.end(), each.begin(), each.end());
    }
    joined_.attributes.set(Attr::seed, first.integer(Attr::seed));
    joined_.attributes.set(Attr::seed_sites, sites);
    joined_.attributes.set(Attr::strides, strides);
    joined_.attributes.set(Attr::start_counts, starts);
  }

  void join_sums() {
    for (const int member : members_) take(at(member), 0, 1);
    joined_.op = &ops::kMultiSumOfSquares;
  }

  const Graph& graph_;
  const Members members_;
  Instruction joined_;  // its operands are those of the old graph
};

// Again and again, since groups that wait for each other are not joined at once.
Graph join_all(Graph graph, const KernelTable& kernels) {
  while (true) {
    std::vector<Merge> merges;
    for (Members& members : Groups(graph).several())
      if (const Joiner joiner(graph, std::move(members)); joiner.is_accepted(kernels)) merges.push_back(joiner.merge());
    if (merges.empty()) return graph;
    graph = merge_instructions(graph, merges);
  }
}

}  // namespace

Graph join_updates(const Graph& graph, const KernelTable& kernels) {
  return with_regions(graph, [&](const Graph& source) { return join_all(source, kernels); });
}

}  // namespace tessera
