#include "kernels/cpu/sum_of_squares.h"

#include "kernels/common/simd.h"
#include "kernels/cpu/pieces.h"

namespace tessera::cpu {
namespace {

Chunks square_chunks(int64_t n) { return chunks_of(n, 16384, 4096); }

template <typename T>
double chunk_sum(int64_t n, const T* x) {
  using V = simd::Vec<simd::Accumulator<T>>;
  simd::F64x8 sums[2] = {};
  simd::for_each_vector<simd::Accumulator<T>>(n, [&](auto load, auto) {
    const V value = load(x);
    if constexpr (std::is_same_v<T, double>) {
      sums[0] += value * value;
    } else {
      typedef float Half __attribute__((vector_size(32)));
      Half low, high;
      __builtin_memcpy(&low, &value, 32);
      __builtin_memcpy(&high, reinterpret_cast<const char*>(&value) + 32, 32);
      const auto a = __builtin_convertvector(low, simd::F64x8);
      const auto b = __builtin_convertvector(high, simd::F64x8);
      sums[0] += a * a;
      sums[1] += b * b;
    }
  });
  return simd::sum_lanes(sums[0] + sums[1]);
}

}  // namespace

int64_t sum_of_squares_workspace(int64_t n) {
  return square_chunks(n).count() * static_cast<int64_t>(sizeof(double));
}

template <typename T>
void sums_of_squares(std::span<const Squares<T>> tensors, void* workspace, std::span<double> sums) {
  std::vector<int64_t> counts;
  std::vector<double*> partials;
  double* next = static_cast<double*>(workspace);
  for (const Squares<T>& tensor : tensors) {
    counts.push_back(square_chunks(tensor.n).count());
    partials.push_back(next);
    next += counts.back();
  }
  for_each_piece_of(counts, [&](size_t t, int64_t c) {
    const Chunks chunks = square_chunks(tensors[t].n);
    partials[t][c] = chunk_sum(chunks.end(c) - chunks.begin(c), tensors[t].x + chunks.begin(c));
  });
  for (size_t t = 0; t < tensors.size(); ++t) {
    sums[t] = 0;
    for (int64_t c = 0; c < counts[t]; ++c) sums[t] += partials[t][c];
  }
}

template <typename T>
double sum_of_squares(int64_t n, const T* x, void* workspace) {
  const Squares<T> tensor{n, x};
  double sum = 0;
  sums_of_squares<T>({&tensor, 1}, workspace, {&sum, 1});
  return sum;
}

template double sum_of_squares(int64_t, const float*, void*);
template double sum_of_squares(int64_t, const bfloat16*, void*);
template double sum_of_squares(int64_t, const double*, void*);
template void sums_of_squares(std::span<const Squares<float>>, void*, std::span<double>);
template void sums_of_squares(std::span<const Squares<bfloat16>>, void*, std::span<double>);
template void sums_of_squares(std::span<const Squares<double>>, void*, std::span<double>);

}  // namespace tessera::cpu
