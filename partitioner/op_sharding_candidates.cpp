#include "partitioner/op_sharding_candidates.h"

#include <algorithm>

namespace tessera {
namespace {

constexpr size_t kMaxCandidates = 64;

struct Proposal {
  int factor;
  AxisList axes;
  int tensor;
  int64_t bytes;  // of all tensors that agree
};

// Every list of axes that some wish puts on a factor, largest first.
std::vector<Proposal> proposals_of(const OpRules& rules, std::span<const TensorWish> wishes) {
  std::vector<Proposal> proposals;
  for (const TensorWish& wish : wishes) {
    const FactorAxes axes = project(rules.factors, *wish.factors, *wish.sharding);
    for (size_t f = 0; f < axes.size(); ++f) {
      if (axes[f].empty() || rules.factors.factors[f].kind == FactorKind::need_replication)
        continue;
      proposals.push_back({static_cast<int>(f), axes[f], wish.tensor, wish.bytes});
    }
  }
  for (Proposal& one : proposals) {
    int64_t together = 0;
    for (const Proposal& other : proposals)
      if (other.factor == one.factor && other.axes == one.axes) together += other.bytes;
    one.bytes = std::max(one.bytes, together);
  }
  std::stable_sort(proposals.begin(), proposals.end(),
                   [](const Proposal& a, const Proposal& b) { return a.bytes > b.bytes; });
  return proposals;
}

// Takes what fits of each proposal, in order.
FactorAxes assign(const OpRules& rules, const std::vector<Proposal>& order) {
  FactorAxes axes(rules.factors.factors.size());
  // Twice, because a minor factor can be taken only after those major to it are full.
  for (int round = 0; round < 2; ++round)
    for (const Proposal& proposal : order) {
      AxisList& list = axes[static_cast<size_t>(proposal.factor)];
      if (!is_prefix(list, proposal.axes)) continue;
      AxisList more = prefix_without(suffix_after(proposal.axes, list), all_axes(axes));
      const AxisList before = list;
      list = allowed_prefix(rules.factors, proposal.factor, concat(list, more));
      if (!is_legal(rules, axes)) axes[static_cast<size_t>(proposal.factor)] = before;
    }
  return axes;
}

}  // namespace

std::vector<FactorAxes> op_sharding_candidates(const OpRules& rules,
                                               std::span<const TensorWish> wishes) {
  const std::vector<Proposal> base = proposals_of(rules, wishes);
  std::vector<FactorAxes> candidates;
  auto offer = [&](const std::vector<Proposal>& order) {
    if (candidates.size() >= kMaxCandidates) return;
    FactorAxes axes = assign(rules, order);
    if (std::find(candidates.begin(), candidates.end(), axes) == candidates.end())
      candidates.push_back(std::move(axes));
  };
  auto first = [&](auto&& is_first, bool with_rest) {
    std::vector<Proposal> order;
    for (const Proposal& proposal : base)
      if (is_first(proposal)) order.push_back(proposal);
    for (const Proposal& proposal : base)
      if (with_rest && !is_first(proposal)) order.push_back(proposal);
    return order;
  };
  offer(base);
  const auto tensors =
      static_cast<int>(rules.factors.operands.size() + rules.factors.results.size());
  for (int t = tensors - 1; t >= 0; --t)
    offer(first([&](const Proposal& p) { return p.tensor == t; }, true));
  for (const Proposal& one : base) {
    auto same = [&](const Proposal& p) { return p.factor == one.factor && p.axes == one.axes; };
    offer(first(same, true));
    offer(first([&](const Proposal& p) { return !same(p); }, false));  // all but this
    offer(first(same, false));
    for (size_t length = 1; length < one.axes.size(); ++length)  // its prefixes
      offer({{one.factor,
              AxisList(one.axes.begin(), one.axes.begin() + static_cast<std::ptrdiff_t>(length)),
              one.tensor, one.bytes}});
  }
  for (int t = 0; t < tensors; ++t)
    offer(first([&](const Proposal& p) { return p.tensor == t; }, false));
  offer({});
  return candidates;
}

}  // namespace tessera
