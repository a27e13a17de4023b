// Who holds a collective up: the words on the board, put into a sentence.
#pragma once

#include <string>
#include <vector>

#include "core/runtime/progress_engine.h"

namespace tessera {

// What is known of one member of a group.
struct RankView {
  int world_rank = -1;
  bool known = false;    // false: on another host, and nothing was heard of it
  uint64_t started = 0;  // in the group asked about
  uint64_t finished = 0;
  int blocked_on = -1;  // the rank that holds this one up, or -1
  std::string doing;    // describe(RankProgress)
};

struct LagReport {
  int culprit = -1;  // world rank
  std::string text;
};

RankView view_rank(const ProgressBoard& board, int world_rank, int group);
std::vector<RankView> view_members(const ProgressBoard& board, const GroupInfo& group, int number);

// The members that hold up `sequence`: those that have not started it; if all have, those that have
// not done their share; never `self`.
std::vector<int> laggards(int self, const std::vector<RankView>& members, uint64_t sequence);

// "rank 0 has waited 5 s in all_reduce #12 of 'w' in group 'data' (ranks 0, 1); rank 1 lags: ..."
LagReport report_lag(int self, const GroupInfo& group, const WaitSite& site, double seconds,
                     const std::vector<RankView>& members);

}  // namespace tessera
