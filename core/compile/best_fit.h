// Places intervals of memory: those that overlap in time must not overlap in space.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera {

struct Interval {
  int first = 0, last = 0;  // steps, both included
  int64_t bytes = 0;        // a multiple of the alignment
  int64_t offset = -1;      // the answer
};

// Fills the offsets and returns the bytes needed: best-fit gaps, by decreasing size; where that
// stays above the lower bound, other orders (by lifetime x size, by first step) are tried and the
// best kept.
int64_t place_intervals(std::vector<Interval>& intervals);

// Max over time of the bytes that are live: no placement can do better.
int64_t live_lower_bound(std::span<const Interval> intervals);

}  // namespace tessera
