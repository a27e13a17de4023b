// Bound by memory: the tensors read once, 4 n (2 n) bytes; floor 0.83 us for a million f32 at 4.8 TB/s. Two
// launches for all tensors: the table of them is the kernels' parameter, as for adamw.
//
// Order: a thread squares and adds packs in f32, at most four deep, and adds these sums up in f64; so do the
// trees over the block and over the blocks. A sum of 10^9 squares then is as exact as one of sixteen, and an
// infinite square stays infinite (a compensated f32 sum would make NaN of it). One f64 operation for 16 and
// more elements costs nothing, even where f64 runs at a 64th of f32's rate. The number of blocks follows from
// n alone, so that the result has the same bits on every device.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/optimizer/sum_of_squares.h"
#include "kernels/cuda/optimizer/table.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kLoads = 4;
constexpr int64_t kElementsPerBlock = 1 << 14, kMaxBlocks = 1024;

unsigned blocks_of(int64_t n) { return blocks_for(n, kElementsPerBlock, kMaxBlocks); }

// kLoads packs that stand `stride` packs apart, as one f32.
template <typename T, int N>
__device__ __forceinline__ float sum_of_packs(const T* x, int64_t stride) {
  Pack<T, N> packs[kLoads];
#pragma unroll
  for (int l = 0; l < kLoads; ++l) packs[l] = load<N>(x + l * stride * N);
  float sums[N] = {};
#pragma unroll
  for (int l = 0; l < kLoads; ++l) {
#pragma unroll
    for (int i = 0; i < N; ++i) sums[i] += to_float(packs[l].value[i]) * to_float(packs[l].value[i]);
  }
#pragma unroll
  for (int width = N / 2; width > 0; width /= 2) {
#pragma unroll
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

struct Entry {
  int64_t n;
  const void* x;
  float* result;
  double* partials;  // of its blocks, where there are several
  unsigned blocks;
  bool is_wide;      // 16-byte accesses are aligned
};

// Sum of the packs that thread `first` of `stride` has of a tensor.
template <typename T, int N>
__device__ __forceinline__ double sum_of_thread(int64_t n, const T* x, int64_t first, int64_t stride) {
  const int64_t packs = n / N, rest = packs * N + first;
  int64_t i = first;
  double sum = 0;
  for (; i + (kLoads - 1) * stride < packs; i += kLoads * stride) sum += sum_of_packs<T, N>(x + i * N, stride);
  for (; i < packs; i += stride) {
    const Pack<T, N> pack = load<N>(x + i * N);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += to_float(pack.value[k]) * to_float(pack.value[k]);
  }
  if (N > 1 && rest < n) sum += to_float(x[rest]) * to_float(x[rest]);
  return sum;
}

template <typename T, int kCapacity>
__global__ void __launch_bounds__(kThreads) squares_kernel(const __grid_constant__ Table<Entry, kCapacity> table) {
  __shared__ double shared[32];
  const TablePlace place = find_block(table);
  const Entry& t = table.entries[place.entry];
  const int64_t first = place.block * kThreads + threadIdx.x, stride = int64_t{t.blocks} * kThreads;
  const T* x = static_cast<const T*>(t.x);
  double sum = t.is_wide ? sum_of_thread<T, kPackSize<T>>(t.n, x, first, stride)
                         : sum_of_thread<T, 1>(t.n, x, first, stride);
  sum = block_reduce(sum, shared, Sum{});
  if (threadIdx.x != 0) return;
  if (t.blocks == 1)
    *t.result = static_cast<float>(sum);
  else
    t.partials[place.block] = sum;
}

// A block for each tensor.
template <int kCapacity>
__global__ void __launch_bounds__(kThreads) partials_kernel(const __grid_constant__ Table<Entry, kCapacity> table) {
  __shared__ double shared[32];
  const Entry& t = table.entries[blockIdx.x];
  if (t.blocks == 1) return;
  double sum = 0;
  for (unsigned i = threadIdx.x; i < t.blocks; i += kThreads) sum += t.partials[i];
  sum = block_reduce(sum, shared, Sum{});
  if (threadIdx.x == 0) *t.result = static_cast<float>(sum);
}

template <typename T, int kCapacity>
void run(std::span<const Squares> tensors, double* partials, cudaStream_t stream) {
  static_assert(sizeof(Table<Entry, kCapacity>) <= kMaxParameterBytes);
  const auto entry_of = [&](const Squares& t) {
    const unsigned blocks = blocks_of(t.n);
    const Entry entry{t.n, t.x, t.result, partials, blocks, are_aligned(16, t.x)};
    if (blocks > 1) partials += blocks;
    return entry;
  };
  for_each_table<Entry, kCapacity>(
      tensors, [](const Squares& t) { return int64_t{blocks_of(t.n)}; }, entry_of,
      [&](const Table<Entry, kCapacity>& table, unsigned blocks) {
        launch(squares_kernel<T, kCapacity>, dim3(blocks), dim3(kThreads), 0, stream, table);
        if (blocks > static_cast<unsigned>(table.count))
          launch(partials_kernel<kCapacity>, dim3(static_cast<unsigned>(table.count)), dim3(kThreads), 0, stream,
                 table);
      });
}

}  // namespace

int64_t sum_of_squares_workspace(int64_t n) {
  const int64_t blocks = blocks_of(n);
  return blocks == 1 ? 0 : blocks * static_cast<int64_t>(sizeof(double));
}

template <typename T>
void sums_of_squares(std::span<const Squares> tensors, void* workspace, cudaStream_t stream) {
  constexpr int kFew = 8, kMany = 640;
  if (tensors.size() <= kFew)
    run<T, kFew>(tensors, static_cast<double*>(workspace), stream);
  else
    run<T, kMany>(tensors, static_cast<double*>(workspace), stream);
}

template void sums_of_squares<float>(std::span<const Squares>, void*, cudaStream_t);
template void sums_of_squares<bf16>(std::span<const Squares>, void*, cudaStream_t);

}  // namespace tessera::cuda
