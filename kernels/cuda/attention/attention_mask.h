// What queries see of keys, and which tiles hold pairs that are seen: the one place for all attention kernels.
//
// A kernel asks keys_of (queries_of) for the span that its rows see at all, goes through its tiles by
// next_key_tile (next_query_tile), which leaves out those whose segments cannot meet. Only where is_special and is_cut
// say so do scores need add_bias_and_segments and hide_unseen; all answers are the same for every thread of a warp.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/device/opaque.h"

namespace tessera::cuda {

// Where registers are short, a kernel is compiled a second time for attention without segments and bias.
inline bool is_special(const AttentionShape& shape) { return shape.q_segments != nullptr || shape.bias != nullptr; }
__device__ __forceinline__ void drop_special(AttentionShape& shape) {
  shape.q_segments = nullptr;
  shape.bias = nullptr;
}

// begin..end - 1; none where end <= begin.
struct Span {
  int begin, end;
};

__device__ __forceinline__ int64_t start_of(const AttentionShape& shape) {
  return shape.start == nullptr ? 0 : *shape.start;
}

// Of the kRows rows from `row`, a multiple of kRows, of a sequence of `length`.
template <int kRows>
__device__ __forceinline__ SegmentRange segment_range(const SegmentRange* ranges, int batch, int length,
                                                      int row) {
  const int blocks = static_cast<int>((static_cast<unsigned>(length) + kSegmentRows - 1) / kSegmentRows);
  const int block = row / kSegmentRows;
  ranges += entry_offset(batch, blocks);
  SegmentRange range = ranges[block];
#pragma unroll 1
  for (int i = 1; i < kRows / kSegmentRows; ++i) {
    const SegmentRange more = ranges[min(block + i, blocks - 1)];
    range = {min(range.least, more.least), max(range.largest, more.largest)};
  }
  return range;
}
__device__ __forceinline__ bool can_meet(const SegmentRange& a, const SegmentRange& b) {
  return a.least <= b.largest && b.least <= a.largest;
}

struct AttentionMask {
  __device__ __forceinline__ explicit AttentionMask(const AttentionShape& shape)
      : shape(shape), upper(upper_of(shape)) {}

  // Keys that any of the queries row..row + rows - 1 sees by position; all of these queries exist.
  __device__ __forceinline__ Span keys_of(int row, int rows) const {
    return {max(0, lower() + row), min(shape.keys, upper + row + rows - 1)};
  }
  // Queries that see any of the keys key..key + keys - 1, all of which exist.
  __device__ __forceinline__ Span queries_of(int key, int keys) const {
    return {max(0, key - upper + 1), min(shape.queries, key + keys - lower())};
  }

  // The first tile of kTile keys from `key` on that a block of kRows queries may have to visit; `end` or more where
  // none is left below it. Called by whole warps.
  template <int kTile, int kRows>
  __device__ __forceinline__ int next_key_tile(int batch, int row, int key, int end) const {
    if (shape.q_segments == nullptr || key >= end) return key;
    row = opaque(row);
    return next_tile<kTile>(shape.k_ranges, batch, shape.keys,
                            segment_range<kRows>(shape.q_ranges, batch, shape.queries, row), key, end);
  }
  // The same of kTile queries, for a block of kRows keys.
  template <int kTile, int kRows>
  __device__ __forceinline__ int next_query_tile(int batch, int key, int row, int end) const {
    if (shape.q_segments == nullptr || row >= end) return row;
    key = opaque(key);
    return next_tile<kTile>(shape.q_ranges, batch, shape.queries,
                            segment_range<kRows>(shape.k_ranges, batch, shape.keys, key), row, end);
  }

  // Whether kRows queries see anything of kKeys keys.
  template <int kRows, int kKeys>
  __device__ __forceinline__ bool is_seen(int batch, int row, int key) const {
    const Span keys = keys_of(row, min(kRows, shape.queries - row));
    return keys.begin < key + kKeys && key < keys.end &&
           next_key_tile<kKeys, kRows>(batch, row, key, key + 1) <= key;
  }

  // Whether of kRows queries and kKeys keys some pairs are not seen for their positions: then hide_unseen. Pairs of
  // queries or keys that do not exist need not count: with kByKey such keys, else such queries, which add nothing.
  template <int kRows, int kKeys, bool kByKey>
  __device__ __forceinline__ bool is_cut(int row, int key) const {
    const int all = kByKey ? upper + row : min(shape.keys, upper + row);
    if (key + kKeys > all || key < lower() + row + kRows - 1) return true;
    // Queries behind the last have scores of 0, and with a bias they may be anything.
    return kByKey && shape.bias != nullptr && row + kRows > shape.queries;
  }
  // Whether their scores have a bias, or the pairs are of more than one segment: then add_bias_and_segments.
  template <int kRows, int kKeys>
  __device__ __forceinline__ bool is_special(int batch, int row, int key) const {
    return shape.bias != nullptr || (shape.q_segments != nullptr && !is_one_segment<kRows, kKeys>(batch, row, key));
  }

  // Of one pair: what is added to its score in base 2, -inf where the key is not seen. Neither need exist. `shift` is
  // bias_shift() where there is a bias.
  __device__ __forceinline__ float addend(int batch, int head, int row, int key, int shift) const {
    if (key < lower() + row || key >= min(shape.keys, upper + row) || row >= shape.queries) return -INFINITY;
    if (shape.q_segments != nullptr && shape.q_segments[entry_offset(batch, shape.queries) + row] !=
                                           shape.k_segments[entry_offset(batch, shape.keys) + key])
      return -INFINITY;
    if (shape.bias == nullptr) return 0.0f;
    const int at = min(max(shift + row - key, 0), shape.bias_size - 1);
    return shape.bias[entry_offset(head, shape.bias_size) + at] * kLog2E;
  }

  // Of its segment, query r sees keys from max(0, lower() + r) to below min(keys, upper + r). Kept within what makes
  // a difference, so that sums of positions fit an int.
  const AttentionShape& shape;
  int upper;
  __device__ __forceinline__ int lower() const { return upper - shape.window; }

  // Index of the bias of query r and key j, before it is clamped to the bias: r - j + this.
  __device__ __forceinline__ int bias_shift() const {
    // The second is beyond all indices, so that the shape's own bounds are taken in 32 bits.
    constexpr int64_t kFar = int64_t{1} << 41, kNear = 1 << 29;
    const int64_t start = min(max(start_of(shape), -kFar), kFar);
    const int shift = static_cast<int>(min(max(start + shape.bias_origin, -kNear), kNear));
    return min(max(shift, -shape.queries), shape.keys + shape.bias_size);
  }

 private:
  static __device__ __forceinline__ int upper_of(const AttentionShape& shape) {
    // Without a mask all see all: a mask that starts behind the keys.
    if (!shape.causal) return shape.keys;
    const int64_t start = start_of(shape);
    const int most = shape.window == kNoWindow ? shape.keys : shape.keys + shape.window;
    if (start >= most) return most;
    return start < -shape.queries ? -shape.queries : static_cast<int>(start) + 1;
  }

  template <int kTile>
  static __device__ __forceinline__ int next_tile(const SegmentRange* ranges, int batch, int length,
                                                  SegmentRange own, int at, int end) {
    for (; at < end; at += 32 * kTile) {
      // Each lane asks for one of the next 32 tiles.
      const int tile = at + opaque(static_cast<int>(threadIdx.x)) % 32 * kTile;
      const bool meets = tile < end && can_meet(own, segment_range<kTile>(ranges, batch, length, tile));
      const unsigned lanes = __ballot_sync(0xffffffffu, meets);
      if (lanes != 0) return at + (__ffs(static_cast<int>(lanes)) - 1) * kTile;
    }
    return end;
  }

  template <int kRows, int kKeys>
  __device__ __forceinline__ bool is_one_segment(int batch, int row, int key) const {
    row = min(opaque(row), shape.queries - 1);
    key = min(opaque(key), shape.keys - 1);
    const SegmentRange q = segment_range<kRows>(shape.q_ranges, batch, shape.queries, row),
                       k = segment_range<kKeys>(shape.k_ranges, batch, shape.keys, key);
    return q.least == q.largest && k.least == k.largest && q.least == k.least;
  }
};

// Both functions below are for the scores of one warp before they are scaled, [16 M queries from `row`, 8 N keys from
// `key`], or with kByKey [16 M keys, 8 N queries], in registers as attention_tiles.h has them (wgmma's sums are M = 1
// of each warp): with left = lane / 4 and right = lane % 4 * 2, element [m][n][i] has left index
// left + 8 (2 m + i / 2) and right index right + 8 n + i % 2.

// Adds the bias, and makes -inf of pairs of different segments. May stand before the products are added as well as
// behind; before them there are registers to spare.
template <bool kByKey, int M, int N>
__device__ __forceinline__ void add_bias_and_segments(const AttentionMask& mask, float (&score)[M][N][4], int batch,
                                                      int head, int row, int key) {
  const AttentionShape& shape = mask.shape;
  const int lane = opaque(static_cast<int>(threadIdx.x)) % 32, left = lane / 4, right = lane % 4 * 2;
  if (shape.bias != nullptr) {
    const float* bias = shape.bias + entry_offset(head, shape.bias_size);
    const int at = mask.bias_shift() + row - key + (kByKey ? right - left : left - right);
    const float factor = 1.0f / shape.scale;
    // One load for all elements of a diagonal.
#pragma unroll
    for (int diagonal = 1 - N; diagonal < 2 * M; ++diagonal) {
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const int distance = kByKey ? p - 8 * diagonal : 8 * diagonal - p;
        const float value = bias[min(max(at + distance, 0), shape.bias_size - 1)] * factor;
#pragma unroll
        for (int j = 0; j < 2 * M; ++j) {
          const int n = j - diagonal;
          if (n >= 0 && n < N) score[j / 2][n][j % 2 * 2 + p] += value;
        }
      }
    }
  }
  if (shape.q_segments == nullptr) return;
  const int32_t* q = shape.q_segments + entry_offset(batch, shape.queries);
  const int32_t* k = shape.k_segments + entry_offset(batch, shape.keys);
  const auto segment = [&](bool of_key, int index) {
    return of_key ? k[min(key + index, shape.keys - 1)] : q[min(row + index, shape.queries - 1)];
  };
  int32_t of_left[2 * M];
#pragma unroll
  for (int j = 0; j < 2 * M; ++j) of_left[j] = segment(kByKey, left + 8 * j);
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const int32_t of_right = segment(!kByKey, right + 8 * n + p);
#pragma unroll
      for (int j = 0; j < 2 * M; ++j)
        if (of_left[j] != of_right) score[j / 2][n][j % 2 * 2 + p] = -INFINITY;
    }
  }
}

// Makes -inf of what is not seen for its position, queries and keys that do not exist among it.
template <bool kByKey, int M, int N>
__device__ __forceinline__ void hide_unseen(const AttentionMask& mask, float (&score)[M][N][4], int row, int key) {
  const AttentionShape& shape = mask.shape;
  const int lane = opaque(static_cast<int>(threadIdx.x)) % 32, left = lane / 4, right = lane % 4 * 2;
  // Right index c of left index a is seen where low + a <= c < high + a, and below `end`.
  const int high = kByKey ? key - row - mask.lower() + 1 : mask.upper + row - key;
  const int low = kByKey ? key - row - mask.upper + 1 : mask.lower() + row - key;
  const int end = kByKey ? shape.queries - row : shape.keys - key;
#pragma unroll
  for (int j = 0; j < 2 * M; ++j) {
    const int limit = min(end, high + left + 8 * j) - right;
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int p = 0; p < 2; ++p)
        if (8 * n + p >= limit) score[j / 2][n][j % 2 * 2 + p] = -INFINITY;
    }
  }
  if (low + 16 * M - 1 <= 0) return;
#pragma unroll
  for (int j = 0; j < 2 * M; ++j) {
    const int limit = low + left + 8 * j - right;
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int p = 0; p < 2; ++p)
        if (8 * n + p < limit) score[j / 2][n][j % 2 * 2 + p] = -INFINITY;
    }
  }
}

}  // namespace tessera::cuda
