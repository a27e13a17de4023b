#include "kernels/cpu/rms_norm.h"

#include <cmath>

#include "kernels/cpu/column_sums.h"

namespace tessera::cpu {

using simd::for_each_vector;
using simd::sum_lanes;

template <typename T, typename W>
void rms_norm_forward(int64_t rows, int64_t columns, const T* x, const W* gamma, double epsilon,
                      T* y, simd::Accumulator<T>* rstd) {
  using A = simd::Accumulator<T>;
  using V = simd::Vec<A>;
  parallel_ranges(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x_row = x + row * columns;
      V squares{};
      for_each_vector<A>(columns, [&](auto load, auto) {
        const V value = load(x_row);
        squares += value * value;
      });
      const A scale = A(1) / std::sqrt(sum_lanes(squares) / A(columns) + A(epsilon));
      for_each_vector<A>(columns, [&](auto load, auto store) {
        store(y + row * columns, load(x_row) * scale * load(gamma));
      });
      rstd[row] = scale;
    }
  });
}

int64_t rms_norm_backward_workspace(int64_t rows, int64_t columns, int64_t accumulator_bytes) {
  return row_chunks(rows).count() * columns * accumulator_bytes;
}

template <typename T, typename W, typename G>
void rms_norm_backward(int64_t rows, int64_t columns, const T* dy, const T* x, const W* gamma,
                       const simd::Accumulator<T>* rstd, T* dx, G* dgamma, void* workspace) {
  using A = simd::Accumulator<T>;
  using V = simd::Vec<A>;
  const Chunks chunks = row_chunks(rows);
  A* partials = static_cast<A*>(workspace);  // [chunks, columns]
  parallel_for(chunks.count(), [&](int64_t chunk) {
    A* chunk_gamma = partials + chunk * columns;
    std::fill(chunk_gamma, chunk_gamma + columns, A(0));
    for (int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
      const T* x_row = x + row * columns;
      const T* dy_row = dy + row * columns;
      const A scale = rstd[row];
      V dot{};
      for_each_vector<A>(columns, [&](auto load, auto store) {
        const V grad = load(dy_row);
        const V normal = load(x_row) * scale;
        dot += grad * load(gamma) * normal;
        store(chunk_gamma, load(chunk_gamma) + grad * normal);
      });
      const A mean_dot = sum_lanes(dot) / A(columns);
      for_each_vector<A>(columns, [&](auto load, auto store) {
        const V normal = load(x_row) * scale;
        store(dx + row * columns, (load(dy_row) * load(gamma) - normal * mean_dot) * scale);
      });
    }
  });
  add_partials(partials, chunks.count(), columns, columns, dgamma);
}

#define TESSERA_FORWARD(T, W)                                                            \
  template void rms_norm_forward<T, W>(int64_t, int64_t, const T*, const W*, double, T*, \
                                       simd::Accumulator<T>*);
TESSERA_FORWARD(float, float)
TESSERA_FORWARD(bfloat16, bfloat16)
TESSERA_FORWARD(bfloat16, float)
TESSERA_FORWARD(double, double)

#define TESSERA_BACKWARD(T, W, G)                                                          \
  template void rms_norm_backward<T, W, G>(int64_t, int64_t, const T*, const T*, const W*, \
                                           const simd::Accumulator<T>*, T*, G*, void*);
TESSERA_BACKWARD(float, float, float)
TESSERA_BACKWARD(bfloat16, bfloat16, float)
TESSERA_BACKWARD(bfloat16, float, float)
TESSERA_BACKWARD(double, double, double)

}  // namespace tessera::cpu
