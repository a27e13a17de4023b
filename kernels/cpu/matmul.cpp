#include "kernels/cpu/matmul.h"

#include <omp.h>

#include <algorithm>

#include "kernels/cpu/matmul_tile.h"
#include "kernels/cpu/micro_kernel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace tessera::cpu {
namespace {

template <typename T>
using Acc = simd::Accumulator<T>;

constexpr int64_t kDepth = 256;  // of a packed panel: 256 x 32 f32 of B fill two thirds of L1

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Rows [row, row + rows) and depth [p, p + depth) of op(A), packed [row panel][depth][kMicroRows].
template <typename T>
void pack_left(const T* a, int64_t row_step, int64_t depth_step, int64_t rows, int64_t depth,
               Acc<T>* packed) {
  for (int64_t i = 0; i < rows; i += kMicroRows) {
    const int64_t count = std::min<int64_t>(kMicroRows, rows - i);
    for (int64_t p = 0; p < depth; ++p) {
      const T* from = a + i * row_step + p * depth_step;
      for (int64_t r = 0; r < kMicroRows; ++r) {
        *packed++ = r < count ? Acc<T>(from[r * row_step]) : Acc<T>(0);
      }
    }
  }
}

// Depth x columns of op(B), packed [column panel][depth][kPanel], zeros beyond the last column.
template <typename T>
void pack_right(const T* b, int64_t depth_step, int64_t column_step, int64_t depth, int64_t columns,
                Acc<T>* packed) {
  constexpr int64_t kPanel = kMicroVectors * simd::kLanes<Acc<T>>;
  for (int64_t j = 0; j < columns; j += kPanel) {
    const int64_t count = std::min(kPanel, columns - j);
    for (int64_t p = 0; p < depth; ++p) {
      const T* from = b + p * depth_step + j * column_step;
      for (int64_t c = 0; c < kPanel; ++c) {
        *packed++ = c < count ? Acc<T>(from[c * column_step]) : Acc<T>(0);
      }
    }
  }
}

// Our own product of one tile: panels are packed, sums are kept in a block of Acc until k is done.
template <typename In, typename Out>
void own_tile(const GemmShape& tile, double alpha, const In* a, const In* b, double beta, Out* c) {
  using A = Acc<In>;
  constexpr int64_t kPanel = kMicroVectors * simd::kLanes<A>;
  const int64_t rows = round_up(tile.m, kMicroRows), columns = round_up(tile.n, kPanel);
  A* sums = scratch_array<A>(0, static_cast<size_t>(rows * columns));
  A* left = scratch_array<A>(1, static_cast<size_t>(rows * kDepth));
  A* right = scratch_array<A>(2, static_cast<size_t>(columns * kDepth));
  const int64_t a_row = tile.transpose_a ? 1 : tile.lda, a_depth = tile.transpose_a ? tile.lda : 1;
  const int64_t b_depth = tile.transpose_b ? 1 : tile.ldb, b_col = tile.transpose_b ? tile.ldb : 1;
  for (int64_t p = 0; p < tile.k; p += kDepth) {
    const int64_t depth = std::min(kDepth, tile.k - p);
    pack_left(a + p * a_depth, a_row, a_depth, tile.m, depth, left);
    pack_right(b + p * b_depth, b_depth, b_col, depth, tile.n, right);
    for (int64_t j = 0; j < columns; j += kPanel) {
      for (int64_t i = 0; i < rows; i += kMicroRows) {
        micro_tile<kMicroRows, kMicroVectors>(depth, left + i * depth, 1, kMicroRows,
                                              right + j * depth, kPanel, sums + i * columns + j,
                                              columns, p > 0);
      }
    }
  }
  for (int64_t i = 0; i < tile.m; ++i) {
    const A* from = sums + i * columns;
    Out* to = c + i * tile.ldc;
    if (beta == 0) {
      for (int64_t j = 0; j < tile.n; ++j) to[j] = Out(A(alpha) * from[j]);
    } else {
      for (int64_t j = 0; j < tile.n; ++j) {
        to[j] = Out(A(alpha) * from[j] + A(beta) * A(to[j]));
      }
    }
  }
}

template <typename In, typename Out>
void multiply_tile(const GemmShape& tile, double alpha, const In* a, const In* b, double beta,
                   Out* c) {
  if constexpr (std::is_same_v<In, float>) {
    dnnl_tile(tile, alpha, a, b, beta, c);
  } else if constexpr (std::is_same_v<In, bfloat16>) {
    static const bool has_bf16 = dnnl_has_bf16();
    if (has_bf16)
      dnnl_tile(tile, alpha, a, b, beta, c);
    else
      own_tile(tile, alpha, a, b, beta, c);
  } else {
    own_tile(tile, alpha, a, b, beta, c);
  }
}

// The empty sum: C = beta C.
template <typename Out>
void scale_only(const GemmShape& shape, double beta, Out* c) {
  for (int64_t batch = 0; batch < shape.batch; ++batch) {
    for (int64_t i = 0; i < shape.m; ++i) {
      Out* row = c + batch * shape.stride_c + i * shape.ldc;
      for (int64_t j = 0; j < shape.n; ++j) {
        row[j] = beta == 0 ? Out(0) : Out(Acc<Out>(beta) * Acc<Out>(row[j]));
      }
    }
  }
}

struct TileSize {
  int64_t rows, columns;
};

// 256 x 384 keeps a core at full speed, 128 x 192 within 4 % of it (within 10 % where B is stored
// [n, k], which each row of tiles has to transpose anew). Smaller only where there are few tiles.
TileSize tile_size(const GemmShape& shape) {
  TileSize size{std::min<int64_t>(shape.m, 256), std::min<int64_t>(shape.n, 384)};
  const auto count = [&] {
    return shape.batch * ((shape.m + size.rows - 1) / size.rows) *
           ((shape.n + size.columns - 1) / size.columns);
  };
  while (count() < 8 && size.rows * size.columns > 128 * 192) {
    int64_t& larger = size.columns >= size.rows ? size.columns : size.rows;
    larger = round_up((larger + 1) / 2, 16);
  }
  return size;
}

// While it lives, and `active`, this thread's parallel regions have one thread.
class SingleThread {
 public:
  explicit SingleThread(bool active) : threads_(active ? omp_get_max_threads() : 0) {
    if (threads_ > 0) omp_set_num_threads(1);
  }
  ~SingleThread() {
    if (threads_ > 0) omp_set_num_threads(threads_);
  }
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

 private:
  int threads_;
};

}  // namespace

GemmShape dense_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                     int64_t batch) {
  return {transpose_a,         transpose_b, m,     n,     k,     transpose_a ? m : k,
          transpose_b ? k : n, n,           batch, m * k, k * n, m * n};
}

template <typename In, typename Out>
void gemm(const GemmShape& shape, double alpha, const In* a, const In* b, double beta, Out* c) {
  if (shape.m <= 0 || shape.n <= 0 || shape.batch <= 0) return;
  if (shape.k <= 0) return scale_only(shape, beta, c);
  const TileSize size = tile_size(shape);
  const int64_t down = (shape.m + size.rows - 1) / size.rows;
  const int64_t across = (shape.n + size.columns - 1) / size.columns;
  const int64_t tasks = shape.batch * down * across;
  // Outside a parallel region oneDNN would take threads, and split k among them.
  const SingleThread alone(tasks == 1);
  parallel_for(tasks, [&](int64_t task) {
    // Neighbouring tasks share columns of B, which is the larger operand of a forward product.
    const int64_t batch = task / (down * across);
    const int64_t i = task % down * size.rows, j = task / down % across * size.columns;
    GemmShape tile = shape;
    tile.batch = 1;
    tile.m = std::min(size.rows, shape.m - i);
    tile.n = std::min(size.columns, shape.n - j);
    const In* a_at = a + batch * shape.stride_a + (shape.transpose_a ? i : i * shape.lda);
    const In* b_at = b + batch * shape.stride_b + (shape.transpose_b ? j * shape.ldb : j);
    multiply_tile(tile, alpha, a_at, b_at, beta, c + batch * shape.stride_c + i * shape.ldc + j);
  });
}

template void gemm(const GemmShape&, double, const float*, const float*, double, float*);
template void gemm(const GemmShape&, double, const double*, const double*, double, double*);
template void gemm(const GemmShape&, double, const bfloat16*, const bfloat16*, double, bfloat16*);
template void gemm(const GemmShape&, double, const bfloat16*, const bfloat16*, double, float*);

}  // namespace tessera::cpu
