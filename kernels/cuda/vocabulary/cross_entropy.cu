// Bound by memory: each of the three goes over the logits once, sizeof(T) bytes an element, and the gradient
// writes as much. 8192 tokens of 50304 bf16 logits are 824 MB, 172 us at 4.8 TB/s, so 690 us for all four passes;
// the exponential unit (16 a cycle and multiprocessor) takes two thirds of a pass. Logits stay in T: nothing
// else of their size is read or written.
//
// Maximum and sum are apart because shards of the vocabulary combine their maxima in between. Where V is whole and
// the cotangents are known beforehand, cross_entropy_with_grad does all of it on a row that it holds in shared
// memory: logits are read once and their gradient is written, 1.65 GB and 343 us above, which saves half of the
// four passes. Two exponentials an element take 222 us of that beside them.
#include <algorithm>

#include "kernels/cuda/device/copy_async.h"
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
template <int kWidth, int kAhead = 4, typename T, typename Body>
__device__ __forceinline__ void for_each_pack(const T* row, int count, int thread, int threads, Body&& body) {
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

// ---- all in one pass ----------------------------------------------------------------------------

// A block's row, of whose aligned packs the first `held` lie in shared memory: pack i is copied there and read by
// thread i modulo threads alone, so that its copies need no barrier. What does not fit is read again where it lies,
// which then is in L2 (30 KB of 128256 logits in bf16, 4 MB over 132 multiprocessors).
template <typename T>
struct HeldLogits {
  static constexpr int kWidth = kPackSize<T>;
  const T* row = nullptr;
  int count = 0, begin = 0, held = 0;  // begin: of the first aligned pack
  __device__ __forceinline__ HeldLogits() {}
  __device__ __forceinline__ HeldLogits(const T* row, int count, int most) : row(row), count(count) {
    const auto misplaced = static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(T) % kWidth);
    begin = min(count, misplaced == 0 ? 0 : kWidth - misplaced);
    held = min(most, (count - begin) / kWidth);
  }
  __device__ __forceinline__ void ask_for(int i) const {
    if (i < held) copy_async<16>(dynamic_shared<Pack<T, kWidth>>() + i, row + begin + i * kWidth, true);
  }
};

// As for_each_pack. Where a pack of `row` has been used, the pack of `next` that takes its place is asked for.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_held(const HeldLogits<T>& row, const HeldLogits<T>& next, int thread,
                                              int threads, Body&& body) {
  constexpr int kWidth = kPackSize<T>;
  int i = thread;
#pragma unroll 2
  for (; i < row.held; i += threads) {
    body(row.begin + i * kWidth, to_floats<T, kWidth>(dynamic_shared<Pack<T, kWidth>>()[i]));
    next.ask_for(i);
  }
  for (; i < next.held; i += threads) next.ask_for(i);
  if (thread < row.begin) body(thread, load_floats<1>(row.row + thread));
  const int rest = row.begin + row.held * kWidth;
  for_each_pack<kWidth, 2>(row.row + rest, row.count - rest, thread, threads,
                           [&]<int N>(int column, const Floats<N>& logit) { body(rest + column, logit); });
}

// `most`: packs that shared memory holds. 64 registers, for 1024 threads of one block or of several.
constexpr int kAllBlock = 1024;
template <typename T>
__global__ void __launch_bounds__(kAllBlock) cross_entropy_with_grad_kernel(CrossEntropyRows<T> rows, int most) {
  RowTeam<Team::block> team;
  const LogitsShape& shape = rows.shape;
  const Shard shard(shape);
  const int thread = team.thread(), threads = team.threads();
  auto row_at = [&](int64_t row) {
    return row < shape.rows ? HeldLogits<T>(rows.logits + row * shape.columns, shard.valid, most) : HeldLogits<T>();
  };
  const bool is_alike = reinterpret_cast<uintptr_t>(rows.logits) % 16 == reinterpret_cast<uintptr_t>(rows.dlogits) % 16;
  HeldLogits<T> here = row_at(team.first_row());
  for (int i = thread; i < here.held; i += threads) here.ask_for(i);
  for (int64_t row = team.first_row(); row < shape.rows; row += team.row_step()) {
    const int target = shard.column(rows.targets != nullptr ? rows.targets[row] : rows.wide_targets[row]);
    const float d_lse = rows.d_lse[row], lse_slope = rows.lse_slope != nullptr ? rows.lse_slope[row] : 0.0f,
                d_target = rows.d_target[row];
    copy_async_commit();
    copy_async_wait<0>();

    float top = -INFINITY;
    for_each_held(here, HeldLogits<T>(), thread, threads, [&]<int N>(int, const Floats<N>& logit) {
#pragma unroll
      for (int k = 0; k < N; ++k) top = max_nan(top, logit[k]);
    });
    top = team.reduce(top, MaxNan());

    float sum = 0;
    for_each_held(here, HeldLogits<T>(), thread, threads, [&]<int N>(int, const Floats<N>& logit) {
      float of_pack[2] = {0, 0};
#pragma unroll
      for (int k = 0; k < N; ++k) of_pack[k % 2] += exp2_approx((logit[k] - top) * kLog2E);
      sum += of_pack[0] + of_pack[1];
    });
    // Read before its place may be written, which is behind the reduction.
    const float target_logit = thread == 0 && target >= 0 ? to_float(here.row[target]) : 0.0f;
    sum = team.reduce(sum, Sum());
    if (thread == 0) {
      rows.maximum[row] = top;
      rows.sum_exp[row] = sum;
      rows.target_logit[row] = target_logit;
    }

    float slope = d_lse;
    if (rows.lse_slope != nullptr) slope += lse_slope * (top + logf(sum));
    const float factor = slope / sum;
    T* to = rows.dlogits + row * shape.columns;
    const HeldLogits<T> next = row_at(row + team.row_step());
    for_each_held(here, next, thread, threads, [&]<int N>(int column, const Floats<N>& logit) {
      Floats<N> dlogit;
#pragma unroll
      for (int k = 0; k < N; ++k) dlogit[k] = exp2_approx((logit[k] - top) * kLog2E) * factor;
      if (target >= column && target < column + N) {
#pragma unroll
        for (int k = 0; k < N; ++k)
          if (column + k == target) dlogit[k] += d_target;
      }
      const Pack<T, N> pack = to_pack<T>(dlogit);
      if constexpr (N > 1) {
        if (!is_alike) {
#pragma unroll
          for (int k = 0; k < N; ++k) to[column + k] = pack.value[k];
          return;
        }
      }
      store_global(to + column, pack);
    });
    for (int column = shard.valid + thread; column < shape.columns; column += threads)
      to[column] = from_float<T>(0.0f);
    here = next;
  }
}

// Threads and shared memory of a block, and as many blocks as run at once, each of which goes over many rows.
struct AllLaunch {
  unsigned blocks, threads;
  int packs;
};
AllLaunch all_launch(int64_t rows, int64_t row_bytes) {
  constexpr int kReserved = 1024, kOfTeam = 512;  // of a block, by CUDA and by RowTeam
  int device = 0, shared = 0, processors = 0;
  check(cudaGetDevice(&device), "the current device");
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "a device's shared memory");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "a device's multiprocessors");
  const int64_t packs = row_bytes / 16, of_processor = shared + kReserved,
                of_block = packs * 16 + kOfTeam + kReserved;
  // Two blocks at least where they fit, of which one loads while the other computes.
  if (2 * of_block > of_processor)
    return {blocks_for(rows, 1, processors), kAllBlock,
            static_cast<int>(std::min<int64_t>(packs, (shared - kOfTeam) / 16))};
  const int64_t threads = std::clamp<int64_t>((packs / 4 + 31) / 32 * 32, 32, kAllBlock / 2);
  const int64_t at_once = std::min(kAllBlock / threads, of_processor / of_block);
  return {blocks_for(rows, 1, processors * at_once), static_cast<unsigned>(threads), static_cast<int>(packs)};
}

// ---- launchers ----------------------------------------------------------------------------------

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

template <typename T>
void cross_entropy_with_grad(const CrossEntropyRows<T>& rows, cudaStream_t stream) {
  if (rows.shape.rows == 0) return;
  const AllLaunch shape = all_launch(rows.shape.rows, rows.shape.columns * int64_t{sizeof(T)});
  launch(cross_entropy_with_grad_kernel<T>, shape.blocks, shape.threads, int64_t{shape.packs} * 16, stream, rows,
         shape.packs);
}

template void cross_entropy_with_grad<float>(const CrossEntropyRows<float>&, cudaStream_t);
template void cross_entropy_with_grad<bf16>(const CrossEntropyRows<bf16>&, cudaStream_t);
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
