// What attention's forward and backward passes share: blocks of scores with queries along the
// lanes.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/common/transpose.h"
#include "kernels/common/vector_math.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/micro_kernel.h"

namespace tessera::cpu {

inline constexpr int64_t kQueryBlock = 64;
inline constexpr int64_t kKeyBlock = 64;

inline int64_t padded_dim(int64_t dim, int64_t lanes) { return (dim + lanes - 1) / lanes * lanes; }

// rows x dim of `from` to a dense block of Acc with rows of `ld` >= dim, zeros beyond dim. Dense
// because rows that lie a power of two apart would fight for the same few cache sets.
template <typename T, typename Acc>
void load_rows(int64_t rows, int64_t dim, const T* from, int64_t from_step, Acc* to, int64_t ld) {
  constexpr int64_t kL = simd::kLanes<Acc>;
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = from + i * from_step;
    int64_t j = 0;
    for (; j + kL <= dim; j += kL) simd::store(to + i * ld + j, simd::load(row + j));
    if (j < ld) simd::store(to + i * ld + j, simd::load_first(row + j, dim - j));
  }
}

// Asks for the lines of rows that are needed soon: they lie apart by all heads, which hardware
// prefetchers do not follow.
template <typename T>
void prefetch_rows(int64_t rows, int64_t dim, const T* from, int64_t step) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < dim; j += kLine) __builtin_prefetch(from + i * step + j);
  }
}

// scores [keys, kQueryBlock] = keys x queries. `first_key` and `first_query` are positions: with
// `causal`, a score of a key after its query becomes -infinity.
template <typename Acc>
TESSERA_INLINE void block_scores(int64_t keys, int64_t dim, const Acc* key_rows, int64_t key_ld,
                                 const Acc* queries, int64_t first_key, int64_t first_query,
                                 bool causal, Acc* scores) {
  using V = simd::Vec<Acc>;
  constexpr int64_t kL = simd::kLanes<Acc>;
  block_product(keys, kQueryBlock, dim, key_rows, key_ld, int64_t{1}, queries, kQueryBlock, scores,
                kQueryBlock, false);
  if (!causal || first_key + keys - 1 <= first_query) return;
  V index;
  for (int64_t lane = 0; lane < kL; ++lane) index[lane] = Acc(lane);
  const V hidden = simd::broadcast(-std::numeric_limits<Acc>::infinity());
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t i = 0; i < kQueryBlock; i += kL) {
      // Key position <= query position, as a comparison of small numbers.
      const Acc least = Acc(std::min<int64_t>(first_key + j - first_query - i, kL));
      Acc* at = scores + j * kQueryBlock + i;
      simd::store(at, index >= least ? simd::load(at) : hidden);
    }
  }
}

// Keys that the queries of a block may see: [0, this).
inline int64_t visible_keys(const AttentionShape& shape, int64_t last_query_row) {
  if (!shape.causal) return shape.k_len;
  return std::clamp<int64_t>(shape.q_start + last_query_row + 1, 0, shape.k_len);
}

}  // namespace tessera::cpu
