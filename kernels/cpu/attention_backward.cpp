#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace tessera::cpu {
namespace {

// One block of queries and one of keys. "Columns" have queries along the lanes: [dim, kQueryBlock].
template <typename Acc>
struct BackwardBlock {
  Acc* q_columns;  // times the scale
  Acc* dout_columns;
  Acc* dq_columns;
  Acc* q_rows;       // [kQueryBlock, ld]
  Acc* dout_rows;    // [kQueryBlock, ld]
  Acc* keys;         // [kKeyBlock, ld]
  Acc* values;       // [kKeyBlock, ld]
  Acc* probability;  // [kKeyBlock, kQueryBlock]
  Acc* dscore;       // [kKeyBlock, kQueryBlock]
  alignas(64) Acc lse[kQueryBlock];
  alignas(64) Acc delta[kQueryBlock];  // sum over the head of out * dout
};

template <typename Acc>
void carve(BackwardBlock<Acc>& block, int64_t dim, int64_t ld) {
  Acc* at = scratch_array<Acc>(
      0, static_cast<size_t>(3 * dim * kQueryBlock + 2 * (kQueryBlock + kKeyBlock) * ld +
                             2 * kKeyBlock * kQueryBlock));
  const auto take = [&](int64_t count) {
    Acc* taken = at;
    at += count;
    return taken;
  };
  for (Acc** columns : {&block.q_columns, &block.dout_columns, &block.dq_columns}) {
    *columns = take(dim * kQueryBlock);
  }
  for (Acc** rows : {&block.q_rows, &block.dout_rows}) *rows = take(kQueryBlock * ld);
  for (Acc** rows : {&block.keys, &block.values}) *rows = take(kKeyBlock * ld);
  for (Acc** square : {&block.probability, &block.dscore}) *square = take(kKeyBlock * kQueryBlock);
}

// Loads a block of queries in both orders. Rows beyond the last are zero: they add nothing to sums.
template <typename T, typename Acc>
void load_queries(const AttentionShape& shape, int64_t rows, int64_t ld, const T* q, const T* out,
                  const Acc* lse, const T* dout, BackwardBlock<Acc>& block) {
  constexpr Acc kInf = std::numeric_limits<Acc>::infinity();
  const int64_t dim = shape.head_dim, step = shape.heads * dim;
  simd::transpose_in(rows, dim, kQueryBlock, q, step, block.q_columns, kQueryBlock);
  simd::transpose_in(rows, dim, kQueryBlock, dout, step, block.dout_columns, kQueryBlock);
  for (int64_t i = 0; i < dim * kQueryBlock; ++i) block.q_columns[i] *= Acc(shape.scale);
  std::fill(block.dq_columns, block.dq_columns + dim * kQueryBlock, Acc(0));
  load_rows(rows, dim, q, step, block.q_rows, ld);
  load_rows(rows, dim, dout, step, block.dout_rows, ld);
  std::fill(block.q_rows + rows * ld, block.q_rows + kQueryBlock * ld, Acc(0));
  std::fill(block.dout_rows + rows * ld, block.dout_rows + kQueryBlock * ld, Acc(0));
  for (int64_t i = 0; i < kQueryBlock; ++i) {
    Acc delta = 0;
    if (i < rows) {
      simd::Vec<Acc> sum{};
      const T* out_row = out + i * step;
      const Acc* dout_row = block.dout_rows + i * ld;
      simd::for_each_vector<Acc>(dim,
                                 [&](auto load, auto) { sum += load(out_row) * load(dout_row); });
      delta = simd::sum_lanes(sum);
    }
    block.delta[i] = delta;
    // No key seen, or no query: +inf makes every probability exp(-inf) = 0.
    block.lse[i] = i < rows ? (lse[i] == -kInf ? kInf : lse[i]) : kInf;
  }
}

// probability = exp(score - lse); dscore = probability * (dprobability - delta).
template <typename Acc>
void softmax_gradient(int64_t keys, BackwardBlock<Acc>& block) {
  constexpr int64_t kL = simd::kLanes<Acc>;
  for (int64_t i = 0; i < kQueryBlock; i += kL) {
    const auto lse = simd::load(block.lse + i), delta = simd::load(block.delta + i);
    for (int64_t j = 0; j < keys; ++j) {
      Acc* probability = block.probability + j * kQueryBlock + i;
      Acc* dscore = block.dscore + j * kQueryBlock + i;
      const auto p = simd::exp(simd::load(probability) - lse);
      simd::store(probability, p);
      simd::store(dscore, p * (simd::load(dscore) - delta));
    }
  }
}

// Where the gradients of one head's keys are summed.
template <typename Acc>
struct KeySums {
  Acc *dk, *dv;
  int64_t step;            // of their rows
  Acc* dbias = nullptr;    // [distances]
};

// Adds one block of queries into the key gradients, and fills dq_columns.
template <typename T, typename Acc>
void backward_block(const AttentionShape& shape, BlockMask<Acc> mask, int64_t ld, const T* k,
                    const T* v, const KeySums<Acc>& sums, BackwardBlock<Acc>& block) {
  const int64_t dim = shape.head_dim, k_step = shape.kv_heads * dim;
  mask.for_each_tile([&](int64_t key, int64_t keys) {
    load_rows(keys, dim, k + key * k_step, k_step, block.keys, ld);
    load_rows(keys, dim, v + key * k_step, k_step, block.values, ld);
    block_scores(key, keys, dim, block.keys, ld, block.q_columns, mask, block.probability);
    block_product(keys, kQueryBlock, dim, block.values, ld, int64_t{1}, block.dout_columns,
                  kQueryBlock, block.dscore, kQueryBlock, false);
    softmax_gradient(keys, block);
    if (sums.dbias) mask.add_bias_gradient(key, keys, block.dscore, sums.dbias);
    for (int64_t i = 0; i < keys * kQueryBlock; ++i) block.dscore[i] *= Acc(shape.scale);
    block_product(keys, ld, kQueryBlock, block.probability, kQueryBlock, int64_t{1},
                  block.dout_rows, ld, sums.dv + key * sums.step, sums.step, true);
    block_product(keys, ld, kQueryBlock, block.dscore, kQueryBlock, int64_t{1}, block.q_rows, ld,
                  sums.dk + key * sums.step, sums.step, true);
    block_product(dim, kQueryBlock, keys, block.keys, int64_t{1}, ld, block.dscore, kQueryBlock,
                  block.dq_columns, kQueryBlock, true);
  });
}

// Key gradients can be summed where they belong if that is f32 (f64) already, in whole vectors.
template <typename T>
bool sums_in_place(const AttentionShape& shape) {
  using Acc = simd::Accumulator<T>;
  return std::is_same_v<T, Acc> && shape.head_dim % simd::kLanes<Acc> == 0;
}

// The tensors of a backward pass.
template <typename T>
struct Tensors {
  using Acc = simd::Accumulator<T>;
  const T *q, *k, *v, *out;
  const Acc* lse;
  const T* dout;
  T *dq, *dk, *dv;
  Acc* key_sums;   // workspace; per (batch, kv head) two times [k_len, ld]
  Acc* bias_sums;  // [batch, heads, distances], or null
  AttentionExtras<Acc> extras;
};

// All that one key head of one sequence takes part in.
template <typename T>
void backward_group(const AttentionShape& shape, int64_t batch, int64_t group,
                    const Tensors<T>& t) {
  using Acc = simd::Accumulator<T>;
  const int64_t dim = shape.head_dim, ld = padded_dim(dim, simd::kLanes<Acc>);
  const int64_t k_step = shape.kv_heads * dim;
  const int64_t k_at = (batch * shape.k_len * shape.kv_heads + group) * dim;
  const bool in_place = sums_in_place<T>(shape);
  KeySums<Acc> sums;
  sums.dk = in_place ? reinterpret_cast<Acc*>(t.dk + k_at)
                     : t.key_sums + (batch * shape.kv_heads + group) * 2 * shape.k_len * ld;
  sums.dv = in_place ? reinterpret_cast<Acc*>(t.dv + k_at) : sums.dk + shape.k_len * ld;
  sums.step = in_place ? k_step : ld;
  for (int64_t j = 0; j < shape.k_len; ++j) {
    std::fill(sums.dk + j * sums.step, sums.dk + j * sums.step + ld, Acc(0));
    std::fill(sums.dv + j * sums.step, sums.dv + j * sums.step + ld, Acc(0));
  }
  BackwardBlock<Acc> block;
  carve(block, dim, ld);
  const int64_t members = shape.heads / shape.kv_heads, distances = t.extras.distances;
  for (int64_t head = group * members; head < (group + 1) * members; ++head) {
    if (t.bias_sums) {
      sums.dbias = t.bias_sums + (batch * shape.heads + head) * distances;
      std::fill(sums.dbias, sums.dbias + distances, Acc(0));
    }
    for (int64_t row = 0; row < shape.q_len; row += kQueryBlock) {
      const int64_t rows = std::min(kQueryBlock, shape.q_len - row);
      const int64_t q_at = ((batch * shape.q_len + row) * shape.heads + head) * dim;
      for (const T* queries : {t.q, t.out, t.dout}) {
        prefetch_rows(rows, dim, queries + q_at, shape.heads * dim);
      }
      load_queries(shape, rows, ld, t.q + q_at, t.out + q_at,
                   t.lse + (batch * shape.heads + head) * shape.q_len + row, t.dout + q_at, block);
      backward_block(shape, BlockMask<Acc>(shape, t.extras, batch, head, row, rows), ld, t.k + k_at,
                     t.v + k_at, sums, block);
      simd::transpose_out(rows, dim, block.dq_columns, kQueryBlock, t.dq + q_at,
                          shape.heads * dim);
    }
  }
  if (in_place) return;
  for (int64_t j = 0; j < shape.k_len; ++j) {
    simd::for_each_vector<Acc>(dim, [&](auto load, auto store) {
      store(t.dk + k_at + j * k_step, load(sums.dk + j * ld));
      store(t.dv + k_at + j * k_step, load(sums.dv + j * ld));
    });
  }
}

// Elements of the workspace: the key sums, then those of the bias.
int64_t key_sum_size(const AttentionShape& shape, int64_t lanes) {
  return shape.batch * shape.kv_heads * 2 * shape.k_len * padded_dim(shape.head_dim, lanes);
}

}  // namespace

int64_t attention_backward_workspace(const AttentionShape& shape, int64_t accumulator_bytes,
                                     int64_t distances) {
  return (key_sum_size(shape, 64 / accumulator_bytes) + shape.batch * shape.heads * distances) *
         accumulator_bytes;
}

template <typename T>
void attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                        const T* out, const simd::Accumulator<T>* lse, const T* dout, T* dq, T* dk,
                        T* dv, void* workspace,
                        const AttentionExtras<simd::Accumulator<T>>& extras,
                        simd::Accumulator<T>* d_distance_bias) {
  using Acc = simd::Accumulator<T>;
  Tensors<T> t{q, k, v, out, lse, dout, dq, dk, dv, static_cast<Acc*>(workspace), nullptr, extras};
  if (d_distance_bias) t.bias_sums = t.key_sums + key_sum_size(shape, simd::kLanes<Acc>);
  parallel_for(shape.batch * shape.kv_heads, [&](int64_t task) {
    backward_group(shape, task / shape.kv_heads, task % shape.kv_heads, t);
  });
  if (!d_distance_bias) return;
  const int64_t size = shape.heads * extras.distances;
  for (int64_t i = 0; i < size; ++i) {
    Acc sum = 0;
    for (int64_t b = 0; b < shape.batch; ++b) sum += t.bias_sums[b * size + i];
    d_distance_bias[i] = sum;
  }
}

#define TESSERA_BACKWARD(T)                                                                        \
  template void attention_backward<T>(const AttentionShape&, const T*, const T*, const T*,         \
                                      const T*, const simd::Accumulator<T>*, const T*, T*, T*, T*, \
                                      void*, const AttentionExtras<simd::Accumulator<T>>&,         \
                                      simd::Accumulator<T>*);
TESSERA_BACKWARD(float)
TESSERA_BACKWARD(bfloat16)
TESSERA_BACKWARD(double)

}  // namespace tessera::cpu
