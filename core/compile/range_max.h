// Maxima over ranges of a fixed list, in constant time (a sparse table): how much program order has live
// between two places.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace tessera {

class RangeMax {
 public:
  RangeMax() = default;
  explicit RangeMax(std::vector<int64_t> values) {
    levels_.push_back(std::move(values));
    for (size_t width = 1; 2 * width <= levels_[0].size(); width *= 2) {
      const std::vector<int64_t>& below = levels_.back();
      std::vector<int64_t> level(below.size() - width);
      for (size_t i = 0; i < level.size(); ++i) level[i] = std::max(below[i], below[i + width]);
      levels_.push_back(std::move(level));
    }
  }
  // Of elements [first, last]; 0 where there is none.
  int64_t over(int first, int last) const {
    if (first > last || levels_.empty() || levels_[0].empty()) return 0;
    const auto level =
        static_cast<size_t>(std::bit_width(static_cast<size_t>(last - first + 1)) - 1);
    return std::max(levels_[level][static_cast<size_t>(first)],
                    levels_[level][static_cast<size_t>(last) + 1 - (size_t{1} << level)]);
  }

 private:
  std::vector<std::vector<int64_t>> levels_;  // level l: maxima of 2^l elements
};

}  // namespace tessera
