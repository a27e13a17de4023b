// The register tile under every product that is ours: C (+)= A B on packed or strided panels.
//
// M rows of A are broadcast against N vectors of B. On AVX-512, 12 x 2 vectors fill 24 of the 32
// registers, with 24 independent multiply-adds in flight where 8 would hide the latency; per step
// of k it reads 2 vectors and 12 scalars for 24 multiply-adds, so it is bound by arithmetic.
#pragma once

#include "kernels/common/simd.h"

namespace tessera::cpu {

#if defined(__AVX512F__)
inline constexpr int kMicroRows = 12;
inline constexpr int kMicroVectors = 2;
#else
// A vector is several narrower registers here, and there are fewer of them.
inline constexpr int kMicroRows = 4;
inline constexpr int kMicroVectors = 1;
#endif

// A tile of C, [M, N * lanes], from A (element (i, p) at a[i * a_row + p * a_col]) and B (row p at
// b + p * ldb, N whole vectors). With `accumulate` C is added to, else overwritten.
template <int M, int N, typename Acc>
TESSERA_INLINE void micro_tile(int64_t k, const Acc* a, int64_t a_row, int64_t a_col, const Acc* b,
                               int64_t ldb, Acc* c, int64_t ldc, bool accumulate) {
  using V = simd::Vec<Acc>;
  constexpr int kL = simd::kLanes<Acc>;
  V sum[M][N];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sum[i][j] = accumulate ? simd::load(c + i * ldc + j * kL) : V{};
  }
  for (int64_t p = 0; p < k; ++p) {
    V right[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) right[j] = simd::load(b + p * ldb + j * kL);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const Acc left = a[i * a_row + p * a_col];
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) simd::store(c + i * ldc + j * kL, sum[i][j]);
  }
}

// All row counts below kMicroRows, so that the last rows of a block run in one tile too.
template <int M, int N, typename Acc>
TESSERA_INLINE void micro_rows(int64_t rows, int64_t k, const Acc* a, int64_t a_row, int64_t a_col,
                               const Acc* b, int64_t ldb, Acc* c, int64_t ldc, bool accumulate) {
  if constexpr (M > 0) {
    if (rows == M) {
      micro_tile<M, N>(k, a, a_row, a_col, b, ldb, c, ldc, accumulate);
    } else {
      micro_rows<M - 1, N>(rows, k, a, a_row, a_col, b, ldb, c, ldc, accumulate);
    }
  }
}

// C [m, n] (+)= A [m, k] B [k, n] for blocks that live in cache; n is a whole number of vectors.
template <typename Acc>
void block_product(int64_t m, int64_t n, int64_t k, const Acc* a, int64_t a_row, int64_t a_col,
                   const Acc* b, int64_t ldb, Acc* c, int64_t ldc, bool accumulate) {
  constexpr int kL = simd::kLanes<Acc>;
  constexpr int kWide = kMicroVectors * kL;
  for (int64_t j = 0; j < n; j += kWide) {
    const bool narrow = n - j < kWide;
    for (int64_t i = 0; i < m; i += kMicroRows) {
      const int64_t rows = m - i < kMicroRows ? m - i : kMicroRows;
      const Acc* a_at = a + i * a_row;
      Acc* c_at = c + i * ldc + j;
      if (narrow) {
        micro_rows<kMicroRows, 1>(rows, k, a_at, a_row, a_col, b + j, ldb, c_at, ldc, accumulate);
      } else {
        micro_rows<kMicroRows, kMicroVectors>(rows, k, a_at, a_row, a_col, b + j, ldb, c_at, ldc,
                                              accumulate);
      }
    }
  }
}

}  // namespace tessera::cpu
