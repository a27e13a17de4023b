// What a block of queries sees, and what is added to its scores: the causal mask, a sliding window,
// segments of packed documents, and a bias by distance. Whole tiles that they hide are never worked
// out.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/cpu/attention.h"

namespace tessera::cpu {

inline constexpr int64_t kQueryBlock = 64;
inline constexpr int64_t kKeyBlock = 64;

template <typename Acc>
class BlockMask {
 public:
  // Queries row .. row + rows - 1 of one head of one sequence.
  BlockMask(const AttentionShape& shape, const AttentionExtras<Acc>& extras, int64_t batch,
            int64_t head, int64_t row, int64_t rows)
      : causal_(shape.causal),
        window_(shape.window),
        first_query_(shape.q_start + row),
        end_(shape.causal ? std::clamp<int64_t>(first_query_ + rows, 0, shape.k_len) : shape.k_len),
        distances_(extras.distances),
        bias_origin_(extras.bias_origin) {
    if (window_ > 0) begin_ = std::clamp<int64_t>(first_query_ - window_ + 1, 0, end_);
    if (extras.distance_bias) bias_ = extras.distance_bias + head * distances_;
    if (!extras.q_segments) return;
    const int32_t* q = extras.q_segments + batch * shape.q_len + row;
    k_segments_ = extras.k_segments + batch * shape.k_len;
    const auto [least, most] = std::minmax_element(q, q + rows);
    q_least_ = *least;
    q_most_ = *most;
    // Rows beyond the last are thrown away; they take the last one's segment.
    for (int64_t i = 0; i < kQueryBlock; ++i) q_segments_[i] = q[std::min(i, rows - 1)];
  }

  // Calls body(first key, number of keys) for the tiles that may hold a pair that is seen, in
  // rising order.
  template <typename Body>
  void for_each_tile(const Body& body) {
    for (int64_t key = begin_; key < end_; key += kKeyBlock) {
      const int64_t keys = std::min(kKeyBlock, end_ - key);
      if (k_segments_) {
        // Segments need not rise: the ranges of both sides say what a tile may hold.
        const auto [least, most] = std::minmax_element(k_segments_ + key, k_segments_ + key + keys);
        if (*most < q_least_ || *least > q_most_) continue;
        one_segment_ = *least == *most && q_least_ == q_most_;
      }
      body(key, keys);
    }
  }

  // Keys after this one are hidden from the whole block.
  int64_t end() const { return end_; }

  // Adds the bias to scores [keys, kQueryBlock] of the tile, and hides with -infinity.
  void apply(int64_t key, int64_t keys, Acc* scores) const {
    if (bias_) add_bias(key, keys, scores);
    const bool future = causal_ && key + keys - 1 > first_query_;
    const bool past = window_ > 0 && first_query_ + kQueryBlock - 1 - key >= window_;
    if (future || past) hide_outside(key, keys, scores);
    if (k_segments_ && !one_segment_) hide_other_segments(key, keys, scores);
  }

  // to[bias index of a pair] += from [keys, kQueryBlock], for a bias gradient of one head.
  // Elements along a diagonal of the tile share a distance, so they are summed there first.
  void add_bias_gradient(int64_t key, int64_t keys, const Acc* from, Acc* to) const {
    constexpr int64_t kL = simd::kLanes<Acc>;
    alignas(64) Acc diagonals[kKeyBlock + kQueryBlock] = {};
    for (int64_t j = 0; j < keys; ++j) {
      Acc* at = diagonals + keys - 1 - j;
      for (int64_t i = 0; i < kQueryBlock; i += kL)
        simd::store(at + i, simd::load(at + i) + simd::load(from + j * kQueryBlock + i));
    }
    for (int64_t t = 0; t < keys + kQueryBlock - 1; ++t) to[bias_index(key, keys, t)] += diagonals[t];
  }

 private:
  using V = simd::Vec<Acc>;
  using SegmentLane = std::conditional_t<std::is_same_v<Acc, double>, int64_t, int32_t>;
  typedef SegmentLane SegmentVec __attribute__((vector_size(64)));
  static constexpr int64_t kL = simd::kLanes<Acc>;

  // Diagonal t of a tile: key (keys - 1 - j), query i with j + i = t.
  int64_t bias_index(int64_t key, int64_t keys, int64_t t) const {
    return std::clamp<int64_t>(first_query_ - (key + keys - 1) + t + bias_origin_, 0,
                               distances_ - 1);
  }

  void add_bias(int64_t key, int64_t keys, Acc* scores) const {
    alignas(64) Acc diagonals[kKeyBlock + kQueryBlock];
    for (int64_t t = 0; t < keys + kQueryBlock - 1; ++t) diagonals[t] = bias_[bias_index(key, keys, t)];
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t i = 0; i < kQueryBlock; i += kL) {
        Acc* at = scores + j * kQueryBlock + i;
        simd::store(at, simd::load(at) + simd::load(diagonals + keys - 1 - j + i));
      }
    }
  }

  void hide_outside(int64_t key, int64_t keys, Acc* scores) const {
    V index;
    for (int64_t lane = 0; lane < kL; ++lane) index[lane] = Acc(lane);
    const V hidden = simd::broadcast(-std::numeric_limits<Acc>::infinity());
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t i = 0; i < kQueryBlock; i += kL) {
        // Key position <= query position < key position + window, as comparisons of small numbers.
        const int64_t from = key + j - first_query_ - i;
        const Acc least = Acc(std::min<int64_t>(from, kL));
        const Acc end = Acc(window_ > 0 ? std::clamp<int64_t>(from + window_, 0, kL) : kL);
        Acc* at = scores + j * kQueryBlock + i;
        simd::store(at, (index >= least) & (index < end) ? simd::load(at) : hidden);
      }
    }
  }

  void hide_other_segments(int64_t key, int64_t keys, Acc* scores) const {
    const V hidden = simd::broadcast(-std::numeric_limits<Acc>::infinity());
    for (int64_t i = 0; i < kQueryBlock; i += kL) {
      const auto segments = simd::load_as<SegmentVec>(q_segments_ + i);
      for (int64_t j = 0; j < keys; ++j) {
        const SegmentLane own = k_segments_[key + j];
        Acc* at = scores + j * kQueryBlock + i;
        simd::store(at, segments == own ? simd::load(at) : hidden);
      }
    }
  }

  bool causal_;
  int64_t window_;
  int64_t first_query_;  // position of the block's first query
  int64_t begin_ = 0, end_;
  const Acc* bias_ = nullptr;  // of this head, [distances_]
  int64_t distances_, bias_origin_;
  const int32_t* k_segments_ = nullptr;  // of this sequence
  int32_t q_least_ = 0, q_most_ = 0;
  bool one_segment_ = false;  // of the tile: all its pairs are of one segment
  alignas(64) SegmentLane q_segments_[kQueryBlock];
};

}  // namespace tessera::cpu
