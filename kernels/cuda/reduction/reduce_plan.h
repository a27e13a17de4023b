// How a reduction is cut up. All of it follows from the shape alone, so that the order of every sum, and with
// it every bit of the result, is the same on every device.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cuda/reduction/reduce.h"

namespace tessera::cuda {

constexpr int kReduceThreads = 256;

// What one launch does: count cut into `pieces` of `piece` each, whose results stand side by side as
// [outer, pieces, inner].
struct ReducePlan {
  enum class Way {
    lanes,    // inner 1, short: a row by some lanes of a warp
    row,      // inner 1, long: a piece by a block
    columns,  // a piece of some columns by a block, tall x wide threads
    thread,   // inner > 1, short: a column by a thread
  } way = Way::lanes;
  int64_t pieces = 1, piece = 0;
  int lanes = 32;           // of Way::lanes
  int wide = 1, tall = 1;   // of Way::columns
  int64_t tiles = 1;        // of Way::columns: tiles of columns
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int power_of_two(int64_t least, int most) {
  return least >= most ? most : static_cast<int>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(least, 1))));
}

// `pack`: elements in an access. `may_cut`: into several pieces. The pieces of a tile are as many as give a
// thousand blocks, of at least `smallest` elements of count each.
inline ReducePlan plan_reduce(const ReduceShape& s, int pack, bool may_cut) {
  constexpr int64_t kBlocks = 1024, kLoads = 8;
  ReducePlan plan;
  plan.piece = s.count;
  const auto cut = [&](int64_t tasks, int64_t smallest) {
    if (!may_cut || tasks >= kBlocks / 2 || s.count < 2 * smallest) return;
    plan.piece = ceil_div(ceil_div(s.count, std::min(kBlocks / tasks, s.count / smallest)), smallest) * smallest;
    plan.pieces = ceil_div(s.count, plan.piece);
  };
  if (s.inner == 1) {
    const int64_t packs = ceil_div(s.count, pack);
    const bool is_short = packs <= kReduceThreads || (packs <= 4 * kReduceThreads && s.outer >= kBlocks);
    plan.way = is_short && s.outer > 1 ? ReducePlan::Way::lanes : ReducePlan::Way::row;
    plan.lanes = power_of_two(ceil_div(packs, 2), 32);
    if (plan.way == ReducePlan::Way::row) cut(s.outer, kReduceThreads * pack * (kLoads / 2));
    return plan;
  }
  const int64_t packs = ceil_div(s.inner, pack);
  if (s.count <= 16 || (s.count <= 64 && s.outer * packs >= (1 << 16))) {
    plan.way = ReducePlan::Way::thread;
    return plan;
  }
  plan.way = ReducePlan::Way::columns;
  plan.wide = power_of_two(packs, 32);
  plan.tall = kReduceThreads / plan.wide;
  plan.tiles = ceil_div(packs, plan.wide);
  cut(s.outer * plan.tiles, int64_t{plan.tall} * kLoads);
  return plan;
}

}  // namespace tessera::cuda
