#include "core/compile/memory_plan.h"

#include <algorithm>
#include <set>

#include "core/compile/best_fit.h"
#include "core/compile/views.h"

namespace tessera {
namespace {

int64_t aligned(int64_t bytes) { return (bytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment; }

class MemoryPlanner {
 public:
  MemoryPlanner(StepGraph& steps, const Graph& graph, const std::vector<Action>& actions)
      : steps_(steps), graph_(graph), actions_(actions) {}

  MemoryReport run() {
    find_step_ranges();
    add_workspaces();
    find_live_ranges();
    for (size_t s = 0; s < actions_.size(); ++s)
      if (begin_of(actions_[s].node) == static_cast<int>(s)) merge_in_place(actions_[s].node);
    choose_arenas();
    return place();
  }

 private:
  BufferPlan& buffer(int number) { return steps_.buffers[static_cast<size_t>(number)]; }
  const StepNode& node(int number) const { return steps_.nodes[static_cast<size_t>(number)]; }
  int& first(int root) { return first_[static_cast<size_t>(root)]; }
  int& last(int root) { return last_[static_cast<size_t>(root)]; }
  int begin_of(int node) const { return begin_[static_cast<size_t>(node)]; }
  int end_of(int node) const { return end_[static_cast<size_t>(node)]; }
  const Graph& graph_of(int region) const {
    return region == 0 ? graph_ : *steps_.regions[static_cast<size_t>(region) - 1].graph;
  }
  bool is_planned(int root) {
    return buffer(root).arena == Arena::scratch || buffer(root).arena == Arena::symmetric;
  }

  void find_step_ranges() {
    begin_.assign(steps_.nodes.size(), -1);
    end_.assign(steps_.nodes.size(), -1);
    held_from_.assign(steps_.nodes.size(), -1);
    std::vector<int> loops;  // around the action
    for (size_t s = 0; s < actions_.size(); ++s) {
      const auto node = static_cast<size_t>(actions_[s].node);
      if (actions_[s].kind == Action::Kind::loop_begin) loops.push_back(static_cast<int>(s));
      if (actions_[s].kind == Action::Kind::loop_end) loops.pop_back();
      end_[node] = static_cast<int>(s);
      if (begin_[node] >= 0) continue;
      if (actions_[s].kind == Action::Kind::done)  // of the turn before
        held_from_[node] = loops.back();
      else
        begin_[node] = static_cast<int>(s);
    }
  }

  void add_workspaces() {
    for (StepNode& step : steps_.nodes) {
      if (step.workspace_bytes <= 0 || !step.kernel) continue;
      step.workspace = static_cast<int>(steps_.buffers.size());
      BufferPlan plan;
      plan.type = {DType::u8, Shape{step.workspace_bytes}};
      plan.bytes = step.workspace_bytes;
      plan.tensor = cat("workspace of ", step.kernel->name);
      steps_.buffers.push_back(std::move(plan));
    }
  }

  // What comes from outside of the loop is live through it anyway.
  bool is_made_in_turn(int root, size_t node) const {
    const int writer = writers_[static_cast<size_t>(root)];
    return writer < 0 || steps_.nodes[static_cast<size_t>(writer)].region == steps_.nodes[node].region;
  }

  void find_live_ranges() {
    writers_ = steps_.writers();
    first_.assign(steps_.buffers.size(), -1);
    last_.assign(steps_.buffers.size(), -1);
    users_.resize(steps_.buffers.size());
    auto use = [&](int number, int begin, int end, int node) {
      const int root = steps_.root(number);
      users_[static_cast<size_t>(root)].push_back(node);
      if (first(root) < 0 || begin < first(root)) first(root) = begin;
      last(root) = std::max(last(root), end);
    };
    for (size_t n = 0; n < steps_.nodes.size(); ++n) {
      const bool is_held = held_from_[n] >= 0;
      for (int read : steps_.nodes[n].reads) {
        use(read, is_held ? held_from_[n] : begin_[n], end_[n], static_cast<int>(n));
        if (is_held && is_made_in_turn(steps_.root(read), n)) held_.insert(steps_.root(read));
      }
      for (int written : steps_.nodes[n].writes)
        use(written, begin_[n], end_[n], static_cast<int>(n));
      if (steps_.nodes[n].workspace >= 0)
        use(steps_.nodes[n].workspace, begin_[n], end_[n], static_cast<int>(n));
    }
    // What a region hands on is read where the region ends.
    for (size_t s = 0; s < actions_.size(); ++s)
      for (int output : actions_[s].outputs)
        use(output, static_cast<int>(s), static_cast<int>(s), actions_[s].node);
    // The caller reads outputs after the last step.
    for (int output : steps_.output_buffers)
      last(steps_.root(output)) = static_cast<int>(actions_.size());
  }

  // Operand numbers whose memory result `result` may take, in order of preference.
  std::vector<int> in_place_candidates(const StepNode& step, int result) const {
    if (step.kind == StepNode::Kind::collective) {
      const bool can = step.collective == CollectiveKind::all_reduce ||
                       step.collective == CollectiveKind::permute;
      return can ? std::vector<int>{0} : std::vector<int>{};
    }
    if (step.kind == StepNode::Kind::control) {
      const int input = step.control->carried[static_cast<size_t>(result)];
      return input < 0 ? std::vector<int>{}
                       : std::vector<int>{input + (step.control->has_index ? 1 : 0)};
    }
    if (step.kind != StepNode::Kind::kernel) return {};
    const int count = static_cast<int>(step.reads.size());
    std::vector<int> candidates;
    if (step.kernel->in_place_any) {
      for (int i = 0; i < count; ++i) candidates.push_back(i);
      return candidates;
    }
    const Graph& graph = graph_of(step.region);
    const Instruction& instruction = graph.instructions[static_cast<size_t>(step.instruction)];
    const auto in_place = step.kernel->in_place ? step.kernel->in_place : instruction.op->alias;
    if (!in_place) return {};
    const int operand =
        with_call(graph, instruction, [&](const OpCall& call) { return in_place(call, result); });
    if (operand >= 0) candidates.push_back(operand);
    return candidates;
  }

  // True where nothing but operand `operand` of `step` still needs the class it lies in, and other
  // operands in that class are the very same bytes (elementwise kernels only).
  bool may_take(int number, const StepNode& step, int operand, int written) {
    const int read = step.reads[static_cast<size_t>(operand)];
    const int root = steps_.root(read);
    if (!is_planned(root) || last(root) != end_of(number) || held_.contains(root)) return false;
    if (buffer(read).bytes != buffer(written).bytes) return false;
    // A collective writes from its start on: nobody else may read in between.
    for (int user : users_[static_cast<size_t>(root)])
      if (user != number && end_of(user) > begin_of(number)) return false;
    const bool any = step.kind == StepNode::Kind::kernel && step.kernel->in_place_any;
    // Element for element means elements of one width.
    if (any && buffer(read).type.elements() != buffer(written).type.elements()) return false;
    for (size_t i = 0; i < step.reads.size(); ++i) {
      if (static_cast<int>(i) == operand || steps_.root(step.reads[i]) != root) continue;
      const bool same = steps_.offset_in_root(step.reads[i]) == steps_.offset_in_root(read) &&
                        buffer(step.reads[i]).bytes == buffer(read).bytes;
      if (!any || !same) return false;
    }
    // A sibling result may lie there already.
    for (int other : step.writes)
      if (steps_.root(other) == root) return false;
    return true;
  }

  void merge_in_place(int number) {
    const StepNode& step = node(number);
    for (size_t r = 0; r < step.writes.size(); ++r) {
      const int written = step.writes[r];
      if (buffer(written).alias_of >= 0 || !is_planned(written) || held_.contains(written)) continue;
      for (int operand : in_place_candidates(step, static_cast<int>(r))) {
        if (!may_take(number, step, operand, written)) continue;
        const int read = step.reads[static_cast<size_t>(operand)];
        const int root = steps_.root(read);
        buffer(written).alias_of = read;
        buffer(written).alias = AliasKind::overwrite;
        last(root) = std::max(last(root), last(written));
        std::vector<int>& users = users_[static_cast<size_t>(root)];
        users.insert(users.end(), users_[static_cast<size_t>(written)].begin(),
                     users_[static_cast<size_t>(written)].end());
        break;
      }
    }
  }

  void choose_arenas() {
    for (size_t b = 0; b < steps_.buffers.size(); ++b) {
      if (!steps_.buffers[b].collective) continue;
      BufferPlan& root = buffer(steps_.root(static_cast<int>(b)));
      root.collective = true;
      if (root.arena == Arena::scratch) root.arena = Arena::symmetric;
    }
  }

  struct Placement {
    std::vector<int> roots;
    std::vector<Interval> intervals;
    int64_t bytes = 0;
  };

  Placement place_arenas(bool scratch, bool symmetric) {
    Placement placement;
    for (size_t b = 0; b < steps_.buffers.size(); ++b) {
      const BufferPlan& plan = steps_.buffers[b];
      if (plan.alias_of >= 0 || first_[b] < 0) continue;
      if (!((scratch && plan.arena == Arena::scratch) ||
            (symmetric && plan.arena == Arena::symmetric)))
        continue;
      placement.roots.push_back(static_cast<int>(b));
      placement.intervals.push_back({first_[b], last_[b], aligned(plan.bytes), -1});
    }
    placement.bytes = place_intervals(placement.intervals);
    return placement;
  }

  void keep(const Placement& placement, Arena arena) {
    for (size_t i = 0; i < placement.roots.size(); ++i) {
      BufferPlan& plan = buffer(placement.roots[i]);
      plan.arena = arena;
      plan.offset = placement.intervals[i].offset;
    }
  }

  // Two arenas peak at different times; where one for both is clearly smaller, all of it is
  // symmetric.
  MemoryReport place() {
    MemoryReport report;
    const Placement all = place_arenas(true, true);
    const Placement symmetric = place_arenas(false, true);
    const Placement scratch = place_arenas(true, false);
    report.live_lower_bound = live_lower_bound(all.intervals);
    const int64_t apart = symmetric.bytes + scratch.bytes;
    if (!symmetric.roots.empty() && apart > all.bytes + all.bytes / 20) {
      keep(all, Arena::symmetric);
      report.symmetric_bytes = all.bytes;
    } else {
      keep(symmetric, Arena::symmetric);
      keep(scratch, Arena::scratch);
      report.symmetric_bytes = symmetric.bytes;
      report.scratch_bytes = scratch.bytes;
    }
    for (size_t b = 0; b < steps_.buffers.size(); ++b) {
      BufferPlan& plan = steps_.buffers[b];
      if (plan.alias_of >= 0) continue;
      if (plan.arena == Arena::persistent) {
        plan.offset = 0;
        report.persistent_bytes += aligned(plan.bytes);
      } else if (plan.arena == Arena::constant) {
        plan.offset = report.constant_bytes;
        report.constant_bytes += aligned(plan.bytes);
      }
    }
    for (size_t b = 0; b < steps_.buffers.size(); ++b) finish_buffer(static_cast<int>(b));
    return report;
  }

  void finish_buffer(int number) {
    const int root = steps_.root(number);
    BufferPlan& plan = buffer(number);
    plan.arena = buffer(root).arena;
    plan.offset =
        buffer(root).offset < 0 ? -1 : buffer(root).offset + steps_.offset_in_root(number);
    if (!is_planned(root)) {
      plan.input = buffer(root).input;
      return;
    }
    plan.first_step = first(root);
    plan.last_step = last(root);
  }

  StepGraph& steps_;
  const Graph& graph_;
  const std::vector<Action>& actions_;
  std::vector<int> begin_, end_;         // node -> first and last step
  std::vector<int> held_from_;           // node -> begin of the loop whose turns it goes across, or -1
  std::vector<int> writers_;             // buffer -> node, or -1
  std::set<int> held_;                   // root buffers that such a collective reads
  std::vector<int> first_, last_;        // root buffer -> live range
  std::vector<std::vector<int>> users_;  // root buffer -> nodes that read or write it
};

}  // namespace

MemoryReport plan_memory(StepGraph& steps, const Graph& graph, const std::vector<Action>& actions) {
  return MemoryPlanner(steps, graph, actions).run();
}

}  // namespace tessera
