#include "core/compile/best_fit.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

namespace tessera {
namespace {

using Order = std::function<bool(const Interval&, const Interval&)>;

// The placed intervals stay sorted by offset, so that one walk sees every gap.
int64_t place_in_order(std::vector<Interval>& intervals, const Order& before) {
  std::vector<int> order(intervals.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return before(intervals[static_cast<size_t>(a)], intervals[static_cast<size_t>(b)]);
  });
  std::vector<Interval> placed;
  placed.reserve(intervals.size());
  int64_t total = 0;
  for (int index : order) {
    Interval& interval = intervals[static_cast<size_t>(index)];
    int64_t end = 0;  // of what lies below, in time with this one
    int64_t best = -1, best_gap = std::numeric_limits<int64_t>::max();
    for (const Interval& other : placed) {
      if (other.last < interval.first || interval.last < other.first) continue;
      const int64_t gap = other.offset - end;
      if (gap >= interval.bytes && gap < best_gap) {
        best = end;
        best_gap = gap;
      }
      end = std::max(end, other.offset + other.bytes);
    }
    interval.offset = best >= 0 ? best : end;
    total = std::max(total, interval.offset + interval.bytes);
    const auto at =
        std::upper_bound(placed.begin(), placed.end(), interval,
                         [](const Interval& a, const Interval& b) { return a.offset < b.offset; });
    placed.insert(at, interval);
  }
  return total;
}

}  // namespace

int64_t live_lower_bound(std::span<const Interval> intervals) {
  int last = -1;
  for (const Interval& interval : intervals) last = std::max(last, interval.last);
  std::vector<int64_t> change(static_cast<size_t>(last) + 2, 0);
  for (const Interval& interval : intervals) {
    change[static_cast<size_t>(interval.first)] += interval.bytes;
    change[static_cast<size_t>(interval.last) + 1] -= interval.bytes;
  }
  int64_t live = 0, most = 0;
  for (int64_t delta : change) most = std::max(most, live += delta);
  return most;
}

int64_t place_intervals(std::vector<Interval>& intervals) {
  const int64_t bound = live_lower_bound(intervals);
  const Order orders[] = {
      [](const Interval& a, const Interval& b) { return a.bytes > b.bytes; },
      [](const Interval& a, const Interval& b) {
        return static_cast<double>(a.bytes) * (a.last - a.first + 1) >
               static_cast<double>(b.bytes) * (b.last - b.first + 1);
      },
      [](const Interval& a, const Interval& b) { return a.last - a.first > b.last - b.first; },
      [](const Interval& a, const Interval& b) { return a.first < b.first; },
  };
  std::vector<Interval> best;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const Order& order : orders) {
    std::vector<Interval> tried = intervals;
    const int64_t total = place_in_order(tried, order);
    if (total < least) {
      least = total;
      best = std::move(tried);
    }
    if (least <= bound + bound / 50) break;
  }
  intervals = std::move(best);
  return least;
}

}  // namespace tessera
