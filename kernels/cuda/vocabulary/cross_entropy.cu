// Bound by memory: each of the three goes over the logits once, sizeof(T) bytes an element, and the gradient
// writes as much. 8192 tokens of 50304 bf16 logits are 824 MB, 172 us at 4.8 TB/s, so 690 us for all four passes;
// the exponential unit (16 a cycle and multiprocessor) takes two thirds of a pass. Logits stay in T: nothing
// else of their size is read or written.
//
// Maximum and sum are apart because shards of the vocabulary combine their maxima in between, which costs one
// more pass over the logits (172 us above) than a running maximum beside the sum would where V is whole.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/row_team.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/vocabulary/cross_entropy.h"

namespace tessera::cuda {
namespace {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr int kWarpBlock = 128, kMostBlock = 512;

// What a kernel knows of its shard once it has read `start`.
struct Shard {
  int64_t start;
  int valid;  // columns that take part
  __device__ __forceinline__ explicit Shard(const LogitsShape& shape)
      : start(shape.start != nullptr ? *shape.start : 0),
        valid(static_cast<int>(max(int64_t{0}, min(shape.columns, shape.valid_size - start)))) {}
  // The target's column, or -1.
  __device__ __forceinline__ int column(int64_t target) const {
    const int64_t column = target - start;
    return column >= 0 && column < valid ? static_cast<int>(column) : -1;
  }
};

// Goes over row[0, count): body(column, Floats<kWidth>) for packs that are aligned in memory, body(column,
// Floats<1>) for what lies before and behind them, since rows of odd lengths begin anywhere. Loads run kAhead
// packs ahead of the bodies, which may write what they were given.
template <int kWidth, typename T, typename Body>
__device__ __forceinline__ void for_each_pack(const T* row, int count, int thread, int threads, Body&& body) {
  constexpr int kAhead = 4;
  int begin = 0, end = count;
  if constexpr (kWidth > 1) {
    const auto misplaced = static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(T) % kWidth);
    begin = min(count, misplaced == 0 ? 0 : kWidth - misplaced);
    end = begin + (count - begin) / kWidth * kWidth;
    if (thread < begin) body(thread, load_floats<1>(row + thread));
    if (thread < count - end) body(end + thread, load_floats<1>(row + end + thread));
  }
  for (int first = begin + thread * kWidth; first < end; first += kAhead * threads * kWidth) {
    Pack<T, kWidth> packs[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int column = first + a * threads * kWidth;
      if (column < end) packs[a] = load<kWidth>(row + column);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int column = first + a * threads * kWidth;
      if (column < end) body(column, to_floats<T, kWidth>(packs[a]));
    }
  }
}

struct MaxNan {
  static __device__ __forceinline__ float identity() { return -INFINITY; }
  __device__ __forceinline__ float operator()(float a, float b) const { return max_nan(a, b); }
};

template <typename T, Team kTeam>
__global__ void __launch_bounds__(kMostBlock) logits_max_kernel(LogitsShape shape, const T* logits, float* maximum) {
  RowTeam<kTeam> team;
  const Shard shard(shape);
  for (int64_t row = team.first_row(); row < shape.rows; row += team.row_step()) {
    float largest = -INFINITY;
    for_each_pack<kPackSize<T>>(logits + row * shape.columns, shard.valid, team.thread(), team.threads(),
                                [&]<int N>(int, const Floats<N>& logit) {
#pragma unroll
                                  for (int k = 0; k < N; ++k) largest = max_nan(largest, logit[k]);
                                });
    largest = team.reduce(largest, MaxNan());
    if (team.thread() == 0) maximum[row] = largest;
  }
}

template <typename T, typename Id, Team kTeam>
__global__ void __launch_bounds__(kMostBlock)
    logits_sum_kernel(LogitsShape shape, const T* logits, const float* maximum, const Id* targets, float* sum_exp,
                      float* target_logit) {
  RowTeam<kTeam> team;
  const Shard shard(shape);
  for (int64_t row = team.first_row(); row < shape.rows; row += team.row_step()) {
    const T* of_row = logits + row * shape.columns;
    const float top = maximum[row];
    float sum = 0;
    // The difference comes first: times log2(e), a large logit would leave no digits to it.
    for_each_pack<kPackSize<T>>(of_row, shard.valid, team.thread(), team.threads(),
                                [&]<int N>(int, const Floats<N>& logit) {
                                  float of_pack[2] = {0, 0};
#pragma unroll
                                  for (int k = 0; k < N; ++k)
                                    of_pack[k % 2] += exp2_approx((logit[k] - top) * kLog2E);
                                  sum += of_pack[0] + of_pack[1];
                                });
    sum = team.reduce(sum, Sum());
    if (team.thread() == 0) {
      const int target = shard.column(targets[row]);
      sum_exp[row] = sum;
      target_logit[row] = target < 0 ? 0.0f : to_float(of_row[target]);
    }
  }
}

// kWidth 1 where logits and dlogits are not aligned alike.
template <typename T, typename Id, Team kTeam, int kWidth>
__global__ void __launch_bounds__(kMostBlock)
    logits_sum_grad_kernel(LogitsShape shape, const T* logits, const float* maximum, const Id* targets,
                           const float* d_sum, const float* d_target, T* dlogits) {
  const RowTeam<kTeam> team;
  const Shard shard(shape);
  for (int64_t row = team.first_row(); row < shape.rows; row += team.row_step()) {
    T* to = dlogits + row * shape.columns;
    const float top = maximum[row], factor = d_sum[row], at_target = d_target[row];
    const int target = shard.column(targets[row]);
    for_each_pack<kWidth>(logits + row * shape.columns, shard.valid, team.thread(), team.threads(),
                          [&]<int N>(int column, const Floats<N>& logit) {
                            Floats<N> slope;
#pragma unroll
                            for (int k = 0; k < N; ++k)
                              slope[k] = exp2_approx((logit[k] - top) * kLog2E) * factor;
                            if (target >= column && target < column + N) {
#pragma unroll
                              for (int k = 0; k < N; ++k)
                                if (column + k == target) slope[k] += at_target;
                            }
                            store_global(to + column, to_pack<T>(slope));
                          });
    for (int column = shard.valid + team.thread(); column < shape.columns; column += team.threads())
      to[column] = from_float<T>(0.0f);
  }
}

// A warp a row up to 1024 columns, else a block, of as many threads as have something to load.
Team team_of(const LogitsShape& shape) { return shape.columns <= 1024 ? Team::warp : Team::block; }
template <typename... Parameters, typename... Args>
void launch_rows(void (*kernel)(LogitsShape, Parameters...), const LogitsShape& shape, cudaStream_t stream,
                 Args... args) {
  if (team_of(shape) == Team::warp)
    return launch(kernel, blocks_for(shape.rows, kWarpBlock / 32), kWarpBlock, 0, stream, shape, args...);
  const unsigned threads = shape.columns <= 4096 ? 128 : shape.columns <= 16384 ? 256 : kMostBlock;
  launch(kernel, blocks_for(shape.rows, 1), threads, 0, stream, shape, args...);
}

}  // namespace

template <typename T>
void logits_max(const LogitsShape& shape, const T* logits, float* maximum, cudaStream_t stream) {
  if (shape.rows == 0) return;
  launch_rows(team_of(shape) == Team::warp ? logits_max_kernel<T, Team::warp> : logits_max_kernel<T, Team::block>,
              shape, stream, logits, maximum);
}

template <typename T, typename Id>
void logits_sum(const LogitsShape& shape, const T* logits, const float* maximum, const Id* targets, float* sum_exp,
                float* target_logit, cudaStream_t stream) {
  if (shape.rows == 0) return;
  launch_rows(team_of(shape) == Team::warp ? logits_sum_kernel<T, Id, Team::warp>
                                           : logits_sum_kernel<T, Id, Team::block>,
              shape, stream, logits, maximum, targets, sum_exp, target_logit);
}

template <typename T, typename Id>
void logits_sum_grad(const LogitsShape& shape, const T* logits, const float* maximum, const Id* targets,
                     const float* d_sum, const float* d_target, T* dlogits, cudaStream_t stream) {
  if (shape.rows == 0) return;
  constexpr int kWidth = kPackSize<T>;
  const bool is_warp = team_of(shape) == Team::warp,
             is_alike = reinterpret_cast<uintptr_t>(logits) % 16 == reinterpret_cast<uintptr_t>(dlogits) % 16;
  auto kernel = is_warp    ? logits_sum_grad_kernel<T, Id, Team::warp, kWidth>
                : is_alike ? logits_sum_grad_kernel<T, Id, Team::block, kWidth>
                           : logits_sum_grad_kernel<T, Id, Team::block, 1>;
  if (is_warp && !is_alike) kernel = logits_sum_grad_kernel<T, Id, Team::warp, 1>;
  launch_rows(kernel, shape, stream, logits, maximum, targets, d_sum, d_target, dlogits);
}

template void logits_max<float>(const LogitsShape&, const float*, float*, cudaStream_t);
template void logits_max<bf16>(const LogitsShape&, const bf16*, float*, cudaStream_t);

#define TESSERA_SUM(T, Id)                                                                                      \
  template void logits_sum<T, Id>(const LogitsShape&, const T*, const float*, const Id*, float*, float*,        \
                                  cudaStream_t);                                                                \
  template void logits_sum_grad<T, Id>(const LogitsShape&, const T*, const float*, const Id*, const float*,     \
                                       const float*, T*, cudaStream_t);
TESSERA_SUM(float, int32_t)
TESSERA_SUM(float, int64_t)
TESSERA_SUM(bf16, int32_t)
TESSERA_SUM(bf16, int64_t)
#undef TESSERA_SUM

}  // namespace tessera::cuda
