#include "core/runtime/lag_report.h"

#include <algorithm>
#include <cstdio>

namespace tessera {
namespace {

std::string print_seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
  return text;
}

std::string print_ranks(const std::vector<int>& ranks) {
  constexpr size_t kShown = 8;
  if (ranks.size() <= kShown) return join(ranks);
  return cat(join(std::vector<int>(ranks.begin(), ranks.begin() + kShown)), ", ... ", ranks.size(),
             " in all");
}

}  // namespace

RankView view_rank(const ProgressBoard& board, int world_rank, int group) {
  RankView view;
  view.world_rank = world_rank;
  const int local = board.local_of(world_rank);
  if (local < 0) return view;
  const RankProgress& words = board.rank(local);
  view.known = true;
  view.started = words.started[static_cast<size_t>(group)].load(std::memory_order_acquire);
  view.finished = words.finished[static_cast<size_t>(group)].load(std::memory_order_acquire);
  view.blocked_on = words.blocked_on.load(std::memory_order_relaxed);
  view.doing = describe(words);
  return view;
}

std::vector<RankView> view_members(const ProgressBoard& board, const GroupInfo& group, int number) {
  std::vector<RankView> views;
  for (const int member : group.members) views.push_back(view_rank(board, member, number));
  return views;
}

std::vector<int> laggards(int self, const std::vector<RankView>& members, uint64_t sequence) {
  std::vector<int> late, unknown;
  for (const RankView& view : members) {
    if (view.world_rank == self) continue;
    if (!view.known)
      unknown.push_back(view.world_rank);
    else if (view.started < sequence)
      late.push_back(view.world_rank);
  }
  if (!late.empty()) return late;
  for (const RankView& view : members)
    if (view.known && view.world_rank != self && view.finished < sequence)
      late.push_back(view.world_rank);
  return late.empty() ? unknown : late;
}

LagReport report_lag(int self, const GroupInfo& group, const WaitSite& site, double seconds,
                     const std::vector<RankView>& members) {
  const std::vector<int> late = laggards(self, members, site.sequence);
  LagReport report;
  report.text = cat("rank ", self, " has waited ", print_seconds(seconds), " in ",
                    describe_collective(site.kind, site.sequence, site.tensor), " in group '",
                    group.name, "' (ranks ", print_ranks(group.members), ")");
  if (late.empty()) {
    report.culprit = self;
    report.text += "; all ranks have done their share of it, so the fault is in this rank.";
    return report;
  }
  report.culprit = late.front();
  const auto found = std::find_if(members.begin(), members.end(), [&](const RankView& view) {
    return view.world_rank == report.culprit;
  });
  report.text += cat("; rank ", report.culprit,
                     late.size() > 1 ? cat(" (of ", print_ranks(late), ")") : "", " lags: ");
  if (!found->known)
    report.text += "nothing was heard of it";
  else if (found->started < site.sequence)
    report.text += cat("it has not reached it, and ", found->doing);
  else
    report.text += cat("it started it but has not done its share, and ", found->doing);
  if (found->blocked_on >= 0 && found->blocked_on != self)
    report.text += cat("; it is held up by rank ", found->blocked_on);
  report.text += ". Look at that rank's log and host; if it is only slow, raise the timeout.";
  return report;
}

}  // namespace tessera
