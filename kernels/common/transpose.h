// Transposing blocks through registers: a lane-count square at a time, log2(lanes) rounds of
// two-input shuffles, so that neither side is touched element by element.
#pragma once

#include "kernels/common/simd.h"

namespace tessera::simd {

// In place: lane j of row i becomes lane i of row j.
template <typename V>
TESSERA_INLINE void transpose_square(V (&rows)[sizeof(V) / sizeof(LaneOf<V>)]) {
  constexpr int kCount = sizeof(V) / sizeof(LaneOf<V>);
  using Mask = std::conditional_t<std::is_same_v<V, F64x8>, I64x8, I32x16>;
#pragma GCC unroll 4
  for (int step = 1; step < kCount; step *= 2) {
    // Swaps the off-diagonal blocks of `step` within each square of 2 * step.
    Mask upper, lower;
#pragma GCC unroll 16
    for (int lane = 0; lane < kCount; ++lane) {
      upper[lane] = lane & step ? kCount + lane - step : lane;
      lower[lane] = lane & step ? kCount + lane : lane + step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      if (i & step) continue;
      const V a = rows[i], b = rows[i + step];
      rows[i] = __builtin_shuffle(a, b, upper);
      rows[i + step] = __builtin_shuffle(a, b, lower);
    }
  }
}

// to[j * to_step + i] = from[i * from_step + j] for i < rows, j < columns. Columns of `to` from
// `rows` up to `padded_rows` (a whole number of vectors) become zero.
template <typename From, typename Acc>
TESSERA_INLINE void transpose_in(int64_t rows, int64_t columns, int64_t padded_rows,
                                 const From* from, int64_t from_step, Acc* to, int64_t to_step) {
  constexpr int kCount = kLanes<Acc>;
  for (int64_t i = 0; i < padded_rows; i += kCount) {
    for (int64_t j = 0; j < columns; j += kCount) {
      const int64_t width = columns - j < kCount ? columns - j : kCount;
      Vec<Acc> square[kCount];
      for (int r = 0; r < kCount; ++r) {
        const From* row = from + (i + r) * from_step + j;
        if (i + r >= rows)
          square[r] = Vec<Acc>{};
        else
          square[r] = width == kCount ? load(row) : load_first(row, width);
      }
      transpose_square(square);
      for (int64_t c = 0; c < width; ++c) store(to + (j + c) * to_step + i, square[c]);
    }
  }
}

// The way back: to[i * to_step + j] = from[j * from_step + i], for i < rows, j < columns. `from`
// may be read up to whole vectors of i.
template <typename Acc, typename To>
TESSERA_INLINE void transpose_out(int64_t rows, int64_t columns, const Acc* from, int64_t from_step,
                                  To* to, int64_t to_step) {
  constexpr int kCount = kLanes<Acc>;
  for (int64_t i = 0; i < rows; i += kCount) {
    for (int64_t j = 0; j < columns; j += kCount) {
      const int64_t width = columns - j < kCount ? columns - j : kCount;
      Vec<Acc> square[kCount];
      for (int c = 0; c < kCount; ++c) {
        square[c] = c < width ? load(from + (j + c) * from_step + i) : Vec<Acc>{};
      }
      transpose_square(square);
      for (int64_t r = 0; r < kCount && i + r < rows; ++r) {
        To* row = to + (i + r) * to_step + j;
        if (width == kCount)
          store(row, square[r]);
        else
          store_first(row, square[r], width);
      }
    }
  }
}

}  // namespace tessera::simd
