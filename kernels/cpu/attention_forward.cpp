#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace tessera::cpu {
namespace {

// The running softmax of one block of queries, a lane each.
template <typename Acc>
struct ForwardBlock {
  Acc* queries;  // [dim, kQueryBlock], times the scale
  Acc* output;   // [dim, kQueryBlock]
  Acc* scores;   // [kKeyBlock, kQueryBlock]
  Acc* keys;     // [kKeyBlock, dim]
  Acc* values;   // [kKeyBlock, dim]
  alignas(64) Acc maximum[kQueryBlock];
  alignas(64) Acc sum[kQueryBlock];
};

// Turns scores into exp(score - new maximum), and rescales what was summed under the old one.
template <typename Acc>
void online_softmax(int64_t keys, int64_t dim, ForwardBlock<Acc>& block) {
  using V = simd::Vec<Acc>;
  constexpr int64_t kL = simd::kLanes<Acc>;
  constexpr Acc kInf = std::numeric_limits<Acc>::infinity();
  for (int64_t i = 0; i < kQueryBlock; i += kL) {
    const V before = simd::load(block.maximum + i);
    V maximum = before;
    for (int64_t j = 0; j < keys; ++j) {
      maximum = simd::max_nan(maximum, simd::load(block.scores + j * kQueryBlock + i));
    }
    // A query that has seen nothing yet: any finite number, so that exp(-inf - it) is 0.
    const V subtract = maximum == -kInf ? V{} : maximum;
    const V correction = simd::exp(before - subtract);
    V sum{};
    for (int64_t j = 0; j < keys; ++j) {
      Acc* at = block.scores + j * kQueryBlock + i;
      const V probability = simd::exp(simd::load(at) - subtract);
      sum += probability;
      simd::store(at, probability);
    }
    simd::store(block.maximum + i, maximum);
    simd::store(block.sum + i, simd::load(block.sum + i) * correction + sum);
    for (int64_t d = 0; d < dim; ++d) {
      Acc* at = block.output + d * kQueryBlock + i;
      simd::store(at, simd::load(at) * correction);
    }
  }
}

// Divides by the sums, and writes rows of out and lse.
template <typename T, typename Acc>
void finish_block(const AttentionShape& shape, int64_t rows, ForwardBlock<Acc>& block, T* out, Acc* lse) {
  using V = simd::Vec<Acc>;
  constexpr int64_t kL = simd::kLanes<Acc>;
  for (int64_t i = 0; i < kQueryBlock; i += kL) {
    const V sum = simd::load(block.sum + i);
    const V inverse = sum == Acc(0) ? V{} : Acc(1) / sum;
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      Acc* at = block.output + d * kQueryBlock + i;
      simd::store(at, simd::load(at) * inverse);
    }
    simd::store(block.sum + i, simd::load(block.maximum + i) + simd::log(sum));
  }
  std::copy(block.sum, block.sum + rows, lse);
  simd::transpose_out(rows, shape.head_dim, block.output, kQueryBlock, out,
                      shape.heads * shape.head_dim);
}

template <typename T>
void forward_block(const AttentionShape& shape, int64_t batch, int64_t head, int64_t row,
                   const T* q, const T* k, const T* v, T* out, simd::Accumulator<T>* lse,
                   const AttentionExtras<simd::Accumulator<T>>& extras) {
  using Acc = simd::Accumulator<T>;
  const int64_t dim = shape.head_dim, ld = padded_dim(dim, simd::kLanes<Acc>);
  const int64_t rows = std::min(kQueryBlock, shape.q_len - row);
  const int64_t q_step = shape.heads * dim, k_step = shape.kv_heads * dim;
  const int64_t q_at = ((batch * shape.q_len + row) * shape.heads + head) * dim;
  prefetch_rows(rows, dim, q + q_at, q_step);
  Acc* scratch = scratch_array<Acc>(
      0, static_cast<size_t>(2 * dim * kQueryBlock + kKeyBlock * kQueryBlock + 2 * kKeyBlock * ld));
  ForwardBlock<Acc> block;
  block.queries = scratch;
  block.output = block.queries + dim * kQueryBlock;
  block.scores = block.output + dim * kQueryBlock;
  block.keys = block.scores + kKeyBlock * kQueryBlock;
  block.values = block.keys + kKeyBlock * ld;
  std::fill(block.output, block.scores, Acc(0));
  std::fill(block.maximum, block.maximum + kQueryBlock, -std::numeric_limits<Acc>::infinity());
  std::fill(block.sum, block.sum + kQueryBlock, Acc(0));

  const int64_t group = head / (shape.heads / shape.kv_heads);
  const int64_t k_at = (batch * shape.k_len * shape.kv_heads + group) * dim;
  simd::transpose_in(rows, dim, kQueryBlock, q + q_at, q_step, block.queries, kQueryBlock);
  for (int64_t i = 0; i < dim * kQueryBlock; ++i) block.queries[i] *= Acc(shape.scale);

  BlockMask<Acc> mask(shape, extras, batch, head, row, rows);
  mask.for_each_tile([&](int64_t key, int64_t keys) {
    load_rows(keys, dim, k + k_at + key * k_step, k_step, block.keys, ld);
    load_rows(keys, dim, v + k_at + key * k_step, k_step, block.values, ld);
    block_scores(key, keys, dim, block.keys, ld, block.queries, mask, block.scores);
    if (key + keys < mask.end()) {  // the next block's, while this one is worked on
      const int64_t next = k_at + (key + keys) * k_step,
                    more = std::min(kKeyBlock, mask.end() - key - keys);
      prefetch_rows(more, dim, k + next, k_step);
      prefetch_rows(more, dim, v + next, k_step);
    }
    online_softmax(keys, dim, block);
    block_product(dim, kQueryBlock, keys, block.values, int64_t{1}, ld, block.scores, kQueryBlock,
                  block.output, kQueryBlock, true);
  });
  finish_block(shape, rows, block, out + q_at,
               lse + (batch * shape.heads + head) * shape.q_len + row);
}

}  // namespace

template <typename T>
void attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out,
                       simd::Accumulator<T>* lse,
                       const AttentionExtras<simd::Accumulator<T>>& extras) {
  const int64_t blocks = (shape.q_len + kQueryBlock - 1) / kQueryBlock;
  parallel_for(shape.batch * shape.heads * blocks, [&](int64_t task) {
    const int64_t batch = task / (shape.heads * blocks), head = task / blocks % shape.heads;
    // The longest rows of a causal mask first, so that threads end together.
    const int64_t row = (blocks - 1 - task % blocks) * kQueryBlock;
    forward_block(shape, batch, head, row, q, k, v, out, lse, extras);
  });
}

#define TESSERA_FORWARD(T)                                                                        \
  template void attention_forward<T>(const AttentionShape&, const T*, const T*, const T*, T*,     \
                                     simd::Accumulator<T>*,                                        \
                                     const AttentionExtras<simd::Accumulator<T>>&);
TESSERA_FORWARD(float)
TESSERA_FORWARD(bfloat16)
TESSERA_FORWARD(double)

}  // namespace tessera::cpu
