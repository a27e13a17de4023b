#include "partitioner/choose_op_shardings.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "partitioner/op_layout.h"
#include "partitioner/op_sharding_candidates.h"
#include "partitioner/use_patterns.h"

namespace tessera {
namespace {

class Chooser {
 public:
  Chooser(const Graph& source, ReshardPlanner& planner)
      : graph_(source),
        planner_(planner),
        patterns_(graph_),
        annotated_(demanded_annotations(graph_)) {
    lyings_.resize(graph_.instructions.size());
    for (size_t i = 0; i < graph_.instructions.size(); ++i)
      for (const ResultInfo& result : graph_.instructions[i].results)
        lyings_[i].push_back(result.sharding->closed());
    for (const GraphOutput& output : graph_.outputs)
      if (output.sharding) demanded_[output.value] = output.sharding->closed().without_partial();
    for (const GraphInput& input : graph_.inputs) {
      const ResultInfo& info = graph_.info(input.value);
      if (input.kind == InputKind::parameter) weights_.insert(weight_key(info));
      if (input.kind == InputKind::data && info.type.rank() > 0)
        batch_axes_ = concat(batch_axes_, without(info.sharding->dims[0].axes, batch_axes_));
    }
  }

  // An op sees its operands as they lie, and its results as they are wished for. Where it has to move
  // something, and one op alone reads its result, it counts what that one will cost instead: fully
  // sharded steps send 0.4 % fewer bytes for it, with tensor parallelism 1.6 %, and the pass takes a
  // third longer.
  //
  // Twice: the first time an op knows nothing of what is chosen after it, the second time it knows
  // which of the values that its result is added to will be partial anyway, and which lyings of its
  // operands others need anyway. Few ops choose otherwise then, but it pays: tensor and sequence
  // parallelism of a Llama step sends 3 % fewer bytes, no other scheme and no random program sends
  // more; and as most choices are remembered, the pass takes only a tenth longer.
  Graph run() {
    for (bool is_second : {false, true}) {
      is_second_ = is_second;
      resharded_before_ = std::exchange(resharded_, {});
      for (size_t i = 0; i < graph_.instructions.size(); ++i)
        if (!graph_.instructions[i].is(ops::kParameter)) choose(static_cast<int>(i));
    }
    return std::move(graph_);
  }

 private:
  // The op under work.
  struct Work {
    int index = -1;
    OpRules rules;
    std::vector<Sharding> operands;  // as they lie
    std::vector<int64_t> operand_bytes;
    std::vector<Sharding> wanted;   // results
    std::vector<AxisList> welcome;  // partial axes of results that cost nothing ...
    std::vector<AxisList> joined;   // ... because of what the result is added to
    // Into how many parts, by FLOPs, the cost of a reshard of an operand or a reduction of a result
    // is divided among like users.
    std::vector<double> operand_share, result_share;
    std::vector<bool> is_gradient;  // results that have the names and shape of a parameter
    // Lyings to which the operand is resharded for another user anyway.
    std::vector<std::vector<Sharding>> at_hand;
    double flops = 0;
  };

  static std::string weight_key(const ResultInfo& info) {
    return cat(join(info.logical_axes), info.type.shape);
  }
  // Has the names and shape of a parameter.
  bool is_gradient(const ResultInfo& info) const {
    return !info.logical_axes.empty() && weights_.count(weight_key(info)) > 0;
  }
  AxisList joined_partials(Value value) const;
  std::vector<Sharding> made_by_others(int user, size_t operand) const;
  void choose(int index);
  Work work_of(int index) const;
  std::string memo_key(const Work& work) const;
  std::vector<FactorAxes> candidates_of(const Work& work) const;
  // The reshard of result `followed` as it was wished for is left out.
  double cost_of(const Work& work, const FactorAxes& axes, int followed = -1);
  // Of an unnamed result that one op reads: that op, and as which operand.
  struct Follower {
    Work work;
    size_t operand;
  };
  std::optional<Follower> follower_of(int index) const;
  // As what a result is brought to its wish: partial where that costs nothing.
  static Sharding accepted(const Work& work, const OpLayout& layout, size_t r);
  // Whether an operand or a result must be resharded if the op is cut so.
  bool moves(const Work& work, const FactorAxes& axes) const;
  // The cheapest candidate; found once for a key.
  const FactorAxes& remembered(const std::string& key, const Work& work,
                               const std::function<double(const FactorAxes&)>& cost);
  OpLayout layout_of(const Work& work, const FactorAxes& axes) const {
    return op_layout(graph_.mesh, work.rules, axes, work.operands, work.operand_bytes);
  }
  // The least that the follower costs with the operand lying so.
  double cost_of_following(Follower& follower, const Sharding& lying);

  Graph graph_;
  ReshardPlanner& planner_;
  UsePatterns patterns_;
  std::vector<std::vector<bool>> annotated_;
  std::vector<std::vector<Sharding>> lyings_;  // as producers leave their results
  std::map<Value, Sharding> demanded_;         // of outputs
  AxisList batch_axes_;                        // of the leading dim of data inputs
  std::set<std::string> weights_;              // weight_key of every parameter
  // What a value is resharded to, apart for the forward and the backward pass (see merge_reshards).
  // Of this sweep and of the one before.
  struct Resharded {
    Sharding to;
    const OpDef* op;  // of the users, which are like users: the same op and operand
    size_t operand;
    int first_user, last_user;
  };
  std::map<std::pair<Value, bool>, std::vector<Resharded>> resharded_, resharded_before_;
  std::unordered_map<std::string, FactorAxes> memo_;
  bool is_second_ = false;
};

Chooser::Work Chooser::work_of(int index) const {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  Work work;
  work.index = index;
  work.rules = op_rules(graph_, instruction);
  work.operand_share = patterns_.operand_shares[static_cast<size_t>(index)];
  for (Value operand : instruction.operands) {
    work.operands.push_back(
        lyings_[static_cast<size_t>(operand.instruction)][static_cast<size_t>(operand.result)]);
    work.operand_bytes.push_back(graph_.type(operand).bytes());
    work.at_hand.push_back(made_by_others(index, work.at_hand.size()));
  }
  for (size_t r = 0; r < instruction.results.size(); ++r)
    work.wanted.push_back(instruction.results[r].sharding->closed().without_partial());
  for (size_t r = 0; r < work.wanted.size(); ++r)
    if (const auto demand = demanded_.find({index, static_cast<int>(r)}); demand != demanded_.end())
      work.wanted[r] = demand->second;
  for (size_t r = 0; r < instruction.results.size(); ++r) {
    const AxisList& accepted = patterns_.accepted_partials[static_cast<size_t>(index)][r];
    const AxisList joined = joined_partials({index, static_cast<int>(r)});
    work.welcome.push_back(concat(accepted, without(joined, accepted)));
    work.joined.push_back(joined);
    const auto share = patterns_.sum_shares.find({index, static_cast<int>(r)});
    const double alike = share == patterns_.sum_shares.end() ? 1 : share->second;
    work.result_share.push_back(alike);
    work.is_gradient.push_back(is_gradient(instruction.results[r]));
  }
  work.flops = patterns_.flops[static_cast<size_t>(index)];
  return work;
}

std::string Chooser::memo_key(const Work& work) const {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(work.index)];
  std::string key = cat(instruction.op->name, " ", instruction.attributes.hash());
  for (size_t o = 0; o < work.operands.size(); ++o) {
    key += cat(
        " ", graph_.type(instruction.operands[o]), work.operands[o], "/", work.operand_share[o],
        work.operands[o].is_partial() ? cat(*graph_.info(instruction.operands[o]).sharding) : "");
    for (const Sharding& sharding : work.at_hand[o]) key += cat("=", sharding);
  }
  for (size_t r = 0; r < work.wanted.size(); ++r)
    key += cat(" ", work.wanted[r], " ", print_axes(*graph_.mesh, work.welcome[r]), "+",
               print_axes(*graph_.mesh, work.joined[r]), "/",
               work.result_share[r], work.is_gradient[r] ? "g" : "");
  return key;
}

std::vector<FactorAxes> Chooser::candidates_of(const Work& work) const {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(work.index)];
  const FactorRule& rule = work.rules.factors;
  std::vector<TensorWish> wishes;
  int tensor = 0;
  for (size_t o = 0; o < work.operands.size(); ++o, ++tensor) {
    wishes.push_back({tensor, &rule.operands[o], &work.operands[o], work.operand_bytes[o]});
    // A partial operand that is wanted in shards can be had so by reduce_scatter.
    if (work.operands[o].is_partial())
      wishes.push_back({tensor, &rule.operands[o], &graph_.sharding(instruction.operands[o]),
                        work.operand_bytes[o]});
  }
  for (size_t r = 0; r < work.wanted.size(); ++r, ++tensor)
    wishes.push_back(
        {tensor, &rule.results[r], &work.wanted[r], instruction.results[r].type.bytes()});
  return op_sharding_candidates(work.rules, wishes);
}

// How much more is computed than there is, because the largest shards set the pace.
static double padding_factor(const FactorRule& rule, const FactorAxes& axes) {
  double factor = 1;
  for (size_t f = 0; f < axes.size(); ++f) {
    const int64_t size = rule.factors[f].size, parts = size_of(axes[f]);
    factor *= static_cast<double>((size + parts - 1) / parts * parts) / static_cast<double>(size);
  }
  return factor;
}

Sharding Chooser::accepted(const Work& work, const OpLayout& layout, size_t r) {
  Sharding wanted = work.wanted[r];
  wanted.partial =
      without(layout.results[r].partial, without(layout.results[r].partial, work.welcome[r]));
  // The sum is reduced to shards, not this addend.
  const AxisList to_sum = without(wanted.partial, without(wanted.partial, work.joined[r]));
  for (DimSharding& dim : wanted.dims) dim.axes = prefix_without(dim.axes, to_sum);
  wanted.partial = without(wanted.partial, wanted.without_partial().used_axes());
  wanted.partial_kind = layout.results[r].partial_kind;
  return wanted;
}

double Chooser::cost_of(const Work& work, const FactorAxes& axes, int followed) {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(work.index)];
  const MachineModel& machine = planner_.machine();
  const OpLayout layout = layout_of(work, axes);
  double seconds = 0, bytes = 0;
  for (size_t o = 0; o < work.operands.size(); ++o) {
    const TensorType& type = graph_.type(instruction.operands[o]);
    bytes += static_cast<double>(type.bytes()) /
             static_cast<double>(size_of(layout.operands[o].without_partial().used_axes()));
    bool again = false;  // the same value in the same lying is resharded once
    for (size_t p = 0; p < o; ++p)
      again = again || (instruction.operands[p] == instruction.operands[o] &&
                        layout.operands[p].same_layout(layout.operands[o]));
    for (const Sharding& known : work.at_hand[o])
      again = again || known.same_layout(layout.operands[o]);
    if (!again && !work.operands[o].same_layout(layout.operands[o]))
      seconds +=
          planner_.seconds(work.operands[o], layout.operands[o], type) / work.operand_share[o];
  }
  for (size_t r = 0; r < layout.results.size(); ++r) {
    const TensorType& type = instruction.results[r].type;
    bytes += static_cast<double>(type.bytes()) /
             static_cast<double>(size_of(layout.results[r].without_partial().used_axes()));
    if (static_cast<int>(r) == followed) continue;
    const Sharding wanted = accepted(work, layout, r);
    if (wanted.same_layout(layout.results[r])) continue;
    double share = layout.results[r].is_partial() ? work.result_share[r] : 1;
    // Over the axes of the batch every gradient is reduced, beside the rest of the backward pass.
    if (work.is_gradient[r] && layout.results[r].is_partial() &&
        without(layout.results[r].partial, batch_axes_).empty())
      share /= machine.exposed_gradients;
    seconds += planner_.seconds(layout.results[r], wanted, type) / share;
  }
  const DType dtype = work.operands.empty() ? instruction.results[0].type.dtype
                                            : graph_.type(instruction.operands[0]).dtype;
  seconds += work.flops * padding_factor(work.rules.factors, axes) /
             static_cast<double>(size_of(all_axes(axes))) / machine.flops(dtype);
  // What the op itself sends: halos, two stages.
  if (const AxisList used = all_axes(axes); work.rules.exchange_bytes && !used.empty()) {
    const double sent = work.rules.exchange_bytes(axes);
    const Link link = machine.link(*graph_.mesh, used);
    if (sent > 0) seconds += link.latency + sent / link.bandwidth;
  }
  return seconds + bytes / machine.memory_bandwidth;
}

// Partial axes that cost a value nothing, because something that it is added to is partial over
// them already: their sum is reduced once.
AxisList Chooser::joined_partials(Value value) const {
  auto partial_of = [&](Value other) -> AxisList {
    if (other == value || (!is_second_ && other.instruction >= value.instruction)) return {};
    const Sharding& lying =
        lyings_[static_cast<size_t>(other.instruction)][static_cast<size_t>(other.result)];
    return lying.partial_kind == ReduceKind::sum ? lying.partial : AxisList{};
  };
  if (const auto found = patterns_.addends.find(value); found != patterns_.addends.end())
    for (Value other : found->second)
      if (AxisList partial = partial_of(other); !partial.empty()) return partial;
  const auto& uses = patterns_.uses[static_cast<size_t>(value.instruction)];
  if (uses.size() != 1) return {};
  const Instruction& user = graph_.instructions[static_cast<size_t>(uses[0].user)];
  for (const LinearSet& set :
       with_call(graph_, user, [&](const OpCall& call) { return linear_sets(*user.op, call); })) {
    if (set.kind != ReduceKind::sum ||
        !std::count(set.operands.begin(), set.operands.end(), uses[0].operand))
      continue;
    for (int operand : set.operands)
      if (AxisList partial = partial_of(user.operands[static_cast<size_t>(operand)]);
          !partial.empty())
        return partial;
  }
  return {};
}

// By an earlier op; or, in the sweep before, by a like one. (Two unlike ones could each keep the
// other at what neither needs.)
std::vector<Sharding> Chooser::made_by_others(int user, size_t operand) const {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(user)];
  const std::pair key(instruction.operands[operand], is_backward(instruction));
  std::vector<Sharding> made;
  if (const auto found = resharded_.find(key); found != resharded_.end())
    for (const Resharded& one : found->second) made.push_back(one.to);
  if (const auto found = resharded_before_.find(key); found != resharded_before_.end())
    for (const Resharded& one : found->second)
      if (one.op == instruction.op && one.operand == operand &&
          (one.first_user != user || one.last_user != user))
        made.push_back(one.to);
  return made;
}

std::optional<Chooser::Follower> Chooser::follower_of(int index) const {
  const auto& uses = patterns_.uses[static_cast<size_t>(index)];
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  if (uses.size() != 1 || instruction.results.size() != 1 ||
      annotated_[static_cast<size_t>(index)][0] || demanded_.contains({index, 0}))
    return std::nullopt;
  Follower follower{work_of(uses[0].user), static_cast<size_t>(uses[0].operand)};
  // A gradient's reduction is hidden (exposed_gradients) wherever it stands.
  const std::vector<bool>& is_gradient = follower.work.is_gradient;
  if (std::count(is_gradient.begin(), is_gradient.end(), true) > 0) return std::nullopt;
  return follower;
}

double Chooser::cost_of_following(Follower& follower, const Sharding& lying) {
  follower.work.operands[follower.operand] = lying;
  double best = std::numeric_limits<double>::infinity();
  for (const FactorAxes& axes : candidates_of(follower.work))
    best = std::min(best, cost_of(follower.work, axes));
  return best;
}

bool Chooser::moves(const Work& work, const FactorAxes& axes) const {
  const OpLayout layout = layout_of(work, axes);
  for (size_t o = 0; o < work.operands.size(); ++o)
    if (!work.operands[o].same_layout(layout.operands[o])) return true;
  for (size_t r = 0; r < work.wanted.size(); ++r)
    if (!accepted(work, layout, r).same_layout(layout.results[r])) return true;
  return false;
}

const FactorAxes& Chooser::remembered(const std::string& key, const Work& work,
                                      const std::function<double(const FactorAxes&)>& cost) {
  const auto known = memo_.find(key);
  if (known != memo_.end()) return known->second;
  const std::vector<FactorAxes> candidates = candidates_of(work);
  size_t best = 0;
  double best_cost = candidates.size() > 1 ? cost(candidates[0]) : 0;
  for (size_t c = 1; c < candidates.size(); ++c) {
    const double own = cost(candidates[c]);
    if (own < best_cost * (1 - 1e-9)) best = c, best_cost = own;
  }
  return memo_.emplace(key, candidates[best]).first->second;
}

void Chooser::choose(int index) {
  Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  const Work work = work_of(index);
  std::string key = memo_key(work);
  FactorAxes axes = remembered(key, work, [&](const FactorAxes& one) { return cost_of(work, one); });
  std::optional<Follower> follower;
  if (is_second_ && moves(work, axes)) follower = follower_of(index);
  if (follower) {
    follower->work.operands[follower->operand] = Sharding(graph_.mesh, work.wanted[0].rank());
    key += cat(" > ", follower->operand, " ", memo_key(follower->work));
    std::map<std::string, double> following;  // by lying
    axes = remembered(key, work, [&](const FactorAxes& one) {
      const Sharding lying = layout_of(work, one).results[0];
      const auto [known, is_new] = following.try_emplace(cat(lying), 0);
      if (is_new) known->second = cost_of_following(*follower, lying);
      return cost_of(work, one, 0) + known->second;
    });
  }
  instruction.factor_axes = axes;
  const OpLayout layout = layout_of(work, axes);
  for (size_t o = 0; o < work.operands.size(); ++o)
    if (!work.operands[o].same_layout(layout.operands[o])) {
      std::vector<Resharded>& made =
          resharded_[{instruction.operands[o], is_backward(instruction)}];
      const auto found = std::find_if(made.begin(), made.end(), [&](const Resharded& one) {
        return one.op == instruction.op && one.operand == o &&
               one.to.same_layout(layout.operands[o]);
      });
      if (found == made.end())
        made.push_back({layout.operands[o], instruction.op, o, index, index});
      else
        found->last_user = index;
    }
  for (size_t r = 0; r < instruction.results.size(); ++r) {
    // A named activation is brought to its annotated dims right after the op.
    const ResultInfo& info = instruction.results[r];
    Sharding lying = layout.results[r];
    if (annotated_[static_cast<size_t>(index)][r]) lying = constrained(lying, *info.sharding);
    lyings_[static_cast<size_t>(index)][r] = std::move(lying);
  }
}

}  // namespace

Graph choose_op_shardings(const Graph& graph, ReshardPlanner& planner) {
  return Chooser(graph, planner).run();
}

}  // namespace tessera
