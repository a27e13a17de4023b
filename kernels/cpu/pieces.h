// One parallel loop over the pieces of many tensors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace tessera::cpu {

// Calls body(item, piece) for each of the pieces, of which item i has counts[i].
template <typename Body>
void for_each_piece_of(std::span<const int64_t> counts, const Body& body) {
  std::vector<int64_t> ends;
  int64_t total = 0;
  for (const int64_t count : counts) ends.push_back(total += count);
  parallel_for(total, [&](int64_t task) {
    const auto item = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), task) - ends.begin());
    body(item, task - (ends[item] - counts[item]));
  });
}

// Items with a member n, its elements: body(item, begin, end) for pieces of `size` elements.
template <typename Item, typename Body>
void for_each_piece(std::span<const Item> items, int64_t size, const Body& body) {
  std::vector<int64_t> counts;
  for (const Item& item : items) counts.push_back(Chunks{item.n, size}.count());
  for_each_piece_of(counts, [&](size_t i, int64_t piece) {
    const Chunks chunks{items[i].n, size};
    body(items[i], chunks.begin(piece), chunks.end(piece));
  });
}

}  // namespace tessera::cpu
