#include "kernels/cpu/cross_entropy.h"

#include <cmath>

#include "kernels/common/vector_math.h"
#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

// Rows are long; a few make a task worth its start.
int64_t row_grain(const LogitsShape& shape) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(shape.columns, 1));
}

// The target's column in this shard, or -1.
template <typename Id>
int64_t target_column(const LogitsShape& shape, Id target) {
  const int64_t column = static_cast<int64_t>(target) - shape.start;
  return column >= 0 && column < shape.valid_columns() ? column : -1;
}

// ---- one row, of which `valid` columns take part ------------------------------------------------

template <typename T>
simd::Accumulator<T> row_max(const T* row, int64_t valid) {
  using A = simd::Accumulator<T>;
  using V = simd::Vec<A>;
  constexpr int64_t kL = simd::kLanes<A>;
  constexpr A kLowest = -std::numeric_limits<A>::infinity();
  // Four chains hide the latency of comparisons.
  V best[4];
  for (V& b : best) b = simd::broadcast(kLowest);
  int64_t j = 0;
  for (; j + 4 * kL <= valid; j += 4 * kL) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) best[c] = simd::max_nan(best[c], simd::load(row + j + c * kL));
  }
  for (; j < valid; j += kL)
    best[0] = simd::max_nan(best[0], simd::load_first(row + j, valid - j, kLowest));
  return simd::max_lanes(
      simd::max_nan(simd::max_nan(best[0], best[1]), simd::max_nan(best[2], best[3])));
}

template <typename T>
simd::Accumulator<T> row_sum(const T* row, int64_t valid, simd::Accumulator<T> top) {
  using A = simd::Accumulator<T>;
  using V = simd::Vec<A>;
  constexpr int64_t kL = simd::kLanes<A>;
  constexpr A kLowest = -std::numeric_limits<A>::infinity();
  V sum[2] = {};
  int64_t j = 0;
  for (; j + 2 * kL <= valid; j += 2 * kL) {
    sum[0] += simd::exp(simd::load(row + j) - top);
    sum[1] += simd::exp(simd::load(row + j + kL) - top);
  }
  for (; j < valid; j += kL)
    sum[0] += simd::exp(simd::load_first(row + j, valid - j, kLowest) - top);
  return simd::sum_lanes(sum[0] + sum[1]);
}

// `to` [columns] may be `row`.
template <typename T, typename A = simd::Accumulator<T>>
void row_grad(const T* row, int64_t valid, int64_t columns, A top, A factor, int64_t target,
              A d_target, T* to) {
  // Read before its place is written.
  const A at_target = target < 0 ? A(0) : A(row[target]);
  simd::for_each_vector<A>(
      valid, [&](auto load, auto store) { store(to, simd::exp(load(row) - top) * factor); });
  std::fill(to + valid, to + columns, T(0));
  if (target < 0) return;
  // The same vector exponential as its neighbours', in one lane; then one rounding.
  const auto p = simd::exp(simd::broadcast(at_target) - top);
  to[target] = T(p[0] * factor + d_target);
}

// Calls body(row) for each row, on all threads.
template <typename Body>
void for_rows(const LogitsShape& shape, Body&& body) {
  parallel_ranges(shape.rows, row_grain(shape), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace

template <typename T>
void logits_max(const LogitsShape& shape, const T* logits, simd::Accumulator<T>* maximum) {
  const int64_t valid = shape.valid_columns();
  for_rows(shape, [&](int64_t row) { maximum[row] = row_max(logits + row * shape.columns, valid); });
}

template <typename T, typename Id>
void logits_sum(const LogitsShape& shape, const T* logits, const simd::Accumulator<T>* maximum,
                const Id* targets, simd::Accumulator<T>* sum_exp,
                simd::Accumulator<T>* target_logit) {
  using A = simd::Accumulator<T>;
  const int64_t valid = shape.valid_columns();
  for_rows(shape, [&](int64_t row) {
    const T* at = logits + row * shape.columns;
    sum_exp[row] = row_sum(at, valid, maximum[row]);
    const int64_t target = target_column(shape, targets[row]);
    target_logit[row] = target < 0 ? A(0) : A(at[target]);
  });
}

template <typename T, typename Id>
void logits_sum_grad(const LogitsShape& shape, const T* logits, const simd::Accumulator<T>* maximum,
                     const Id* targets, const simd::Accumulator<T>* d_sum,
                     const simd::Accumulator<T>* d_target, T* dlogits) {
  const int64_t valid = shape.valid_columns();
  for_rows(shape, [&](int64_t row) {
    row_grad(logits + row * shape.columns, valid, shape.columns, maximum[row], d_sum[row],
             target_column(shape, targets[row]), d_target[row], dlogits + row * shape.columns);
  });
}

template <typename T, typename Id>
void cross_entropy_with_grad(const LogitsShape& shape, const T* logits, const Id* targets,
                             const CrossEntropyCotangents<simd::Accumulator<T>>& cotangents,
                             const CrossEntropyParts<simd::Accumulator<T>>& parts, T* dlogits) {
  using A = simd::Accumulator<T>;
  const int64_t valid = shape.valid_columns();
  for_rows(shape, [&](int64_t row) {
    const T* at = logits + row * shape.columns;
    const int64_t target = target_column(shape, targets[row]);
    const A top = row_max(at, valid), sum = row_sum(at, valid, top);
    A slope = cotangents.d_lse[row];
    if (cotangents.lse_slope != nullptr) slope += cotangents.lse_slope[row] * (top + std::log(sum));
    parts.maximum[row] = top;
    parts.sum_exp[row] = sum;
    parts.target_logit[row] = target < 0 ? A(0) : A(at[target]);
    row_grad(at, valid, shape.columns, top, slope / sum, target, cotangents.d_target[row],
             dlogits + row * shape.columns);
  });
}

#define TESSERA_MAX(T) \
  template void logits_max<T>(const LogitsShape&, const T*, simd::Accumulator<T>*);
TESSERA_MAX(float)
TESSERA_MAX(bfloat16)
TESSERA_MAX(double)

#define TESSERA_SUM(T, Id)                                                                        \
  template void logits_sum<T, Id>(const LogitsShape&, const T*, const simd::Accumulator<T>*,      \
                                  const Id*, simd::Accumulator<T>*, simd::Accumulator<T>*);       \
  template void logits_sum_grad<T, Id>(const LogitsShape&, const T*, const simd::Accumulator<T>*, \
                                       const Id*, const simd::Accumulator<T>*,                    \
                                       const simd::Accumulator<T>*, T*);                          \
  template void cross_entropy_with_grad<T, Id>(                                                   \
      const LogitsShape&, const T*, const Id*,                                                    \
      const CrossEntropyCotangents<simd::Accumulator<T>>&,                                        \
      const CrossEntropyParts<simd::Accumulator<T>>&, T*);
TESSERA_SUM(float, int32_t)
TESSERA_SUM(float, int64_t)
TESSERA_SUM(bfloat16, int32_t)
TESSERA_SUM(bfloat16, int64_t)
TESSERA_SUM(double, int32_t)
TESSERA_SUM(double, int64_t)

}  // namespace tessera::cpu
