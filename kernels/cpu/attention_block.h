// What attention's forward and backward passes share: blocks of scores with queries along the
// lanes.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/common/transpose.h"
#include "kernels/common/vector_math.h"
#include "kernels/cpu/attention_mask.h"
#include "kernels/cpu/micro_kernel.h"

namespace tessera::cpu {

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

// scores [keys, kQueryBlock] = keys x queries, with what the mask adds and hides. `key` is the
// position of the first key.
template <typename Acc>
TESSERA_INLINE void block_scores(int64_t key, int64_t keys, int64_t dim, const Acc* key_rows,
                                 int64_t key_ld, const Acc* queries, const BlockMask<Acc>& mask,
                                 Acc* scores) {
  block_product(keys, kQueryBlock, dim, key_rows, key_ld, int64_t{1}, queries, kQueryBlock, scores,
                kQueryBlock, false);
  mask.apply(key, keys, scores);
}

}  // namespace tessera::cpu
