#include "kernels/cpu/layer_norm.h"

#include <cmath>

#include "kernels/cpu/column_sums.h"

namespace tessera::cpu {
namespace {

using simd::broadcast;
using simd::for_each_vector;
using simd::sum_lanes;

template <typename T, typename W>
void forward_row(int64_t columns, const T* x, const W* gamma, const W* beta, double epsilon, T* y,
                 simd::Accumulator<T>* mean_out, simd::Accumulator<T>* rstd_out) {
  using A = simd::Accumulator<T>;
  using V = simd::Vec<A>;
  V sum{};
  for_each_vector<A>(columns, [&](auto load, auto) { sum += load(x); });
  const A mean = sum_lanes(sum) / A(columns);
  V squares{};
  const int64_t whole = columns / simd::kLanes<A> * simd::kLanes<A>;
  for (int64_t i = 0; i < whole; i += simd::kLanes<A>) {
    const V d = simd::load(x + i) - mean;
    squares += d * d;
  }
  if (whole < columns) {  // missing lanes read as the mean, and so add nothing
    const V d = simd::load_first(x + whole, columns - whole, mean) - mean;
    squares += d * d;
  }
  const A variance = sum_lanes(squares) / A(columns);
  const A rstd = A(1) / std::sqrt(variance + A(epsilon));
  for_each_vector<A>(columns, [&](auto load, auto store) {
    V value = (load(x) - mean) * rstd * load(gamma);
    if (beta != nullptr) value += load(beta);
    store(y, value);
  });
  *mean_out = mean;
  *rstd_out = rstd;
}

}  // namespace

template <typename T, typename W>
void layer_norm_forward(int64_t rows, int64_t columns, const T* x, const W* gamma, const W* beta,
                        double epsilon, T* y, simd::Accumulator<T>* mean,
                        simd::Accumulator<T>* rstd) {
  parallel_ranges(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      forward_row(columns, x + row * columns, gamma, beta, epsilon, y + row * columns, mean + row,
                  rstd + row);
    }
  });
}

int64_t layer_norm_backward_workspace(int64_t rows, int64_t columns, int64_t accumulator_bytes) {
  return row_chunks(rows).count() * 2 * columns * accumulator_bytes;
}

template <typename T, typename W, typename G>
void layer_norm_backward(int64_t rows, int64_t columns, const T* dy, const T* x, const W* gamma,
                         const simd::Accumulator<T>* mean, const simd::Accumulator<T>* rstd, T* dx,
                         G* dgamma, G* dbeta, void* workspace) {
  using A = simd::Accumulator<T>;
  using V = simd::Vec<A>;
  const Chunks chunks = row_chunks(rows);
  A* partials = static_cast<A*>(workspace);  // [chunks, 2, columns]
  parallel_for(chunks.count(), [&](int64_t chunk) {
    A* chunk_gamma = partials + chunk * 2 * columns;
    A* chunk_beta = chunk_gamma + columns;
    std::fill(chunk_gamma, chunk_gamma + 2 * columns, A(0));
    for (int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
      const T* x_row = x + row * columns;
      const T* dy_row = dy + row * columns;
      const A mu = mean[row], scale = rstd[row];
      V sum{}, dot{};
      for_each_vector<A>(columns, [&](auto load, auto store) {
        const V grad = load(dy_row);
        const V normal = (load(x_row) - mu) * scale;
        const V weighted = grad * load(gamma);
        sum += weighted;
        dot += weighted * normal;
        store(chunk_gamma, load(chunk_gamma) + grad * normal);
        store(chunk_beta, load(chunk_beta) + grad);
      });
      const A mean_sum = sum_lanes(sum) / A(columns), mean_dot = sum_lanes(dot) / A(columns);
      for_each_vector<A>(columns, [&](auto load, auto store) {
        const V normal = (load(x_row) - mu) * scale;
        const V weighted = load(dy_row) * load(gamma);
        store(dx + row * columns, (weighted - mean_sum - normal * mean_dot) * scale);
      });
    }
  });
  add_partials(partials, chunks.count(), 2 * columns, columns, dgamma);
  if (dbeta != nullptr) {
    add_partials(partials + columns, chunks.count(), 2 * columns, columns, dbeta);
  }
}

#define TESSERA_FORWARD(T, W)                                                                    \
  template void layer_norm_forward<T, W>(int64_t, int64_t, const T*, const W*, const W*, double, \
                                         T*, simd::Accumulator<T>*, simd::Accumulator<T>*);
TESSERA_FORWARD(float, float)
TESSERA_FORWARD(bfloat16, bfloat16)
TESSERA_FORWARD(bfloat16, float)
TESSERA_FORWARD(double, double)

#define TESSERA_BACKWARD(T, W, G)                                                            \
  template void layer_norm_backward<T, W, G>(int64_t, int64_t, const T*, const T*, const W*, \
                                             const simd::Accumulator<T>*,                    \
                                             const simd::Accumulator<T>*, T*, G*, G*, void*);
TESSERA_BACKWARD(float, float, float)
TESSERA_BACKWARD(bfloat16, bfloat16, float)
TESSERA_BACKWARD(bfloat16, float, float)
TESSERA_BACKWARD(double, double, double)

}  // namespace tessera::cpu
