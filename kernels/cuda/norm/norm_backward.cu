// Bound by memory: x and dy are read and dx is written once, 3 * sizeof(T) bytes an element, so 8192 rows of
// 768 in bf16 are 38 MB, 8 us at 4.8 TB/s. A thread keeps its columns' sums for dgamma and dbeta in registers
// over all rows of a group; each group then writes one row of partial sums (at 32 rows a group 8 % of the
// bytes, which L2 holds), and a second kernel adds the groups in order. The number of groups follows from the
// number of rows alone, so sums have the same bits on every GPU.
//
// With a residual gradient three tensors are read and one written, 50 MB and 10 us; a sum behind the norm would make
// it six passes instead of four.
//
// Rows are held in registers up to 8192 columns (16384 in bf16 without mean); longer ones are read twice, of
// which L2 serves one, and keep their sums in the group's row of partial sums.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/norm/held_row.h"
#include "kernels/cuda/norm/norm.h"

namespace tessera::cuda {
namespace {

constexpr int kWarpBlock = 256, kBlock = 512, kMostBlock = 1024;

// Rows of a group: 32 where there are enough for a large GPU, down to 8 where there are not.
int64_t group_count(int64_t rows) {
  return std::max(std::min<int64_t>((rows + 7) / 8, 256), std::min<int64_t>((rows + 31) / 32, 1024));
}

template <typename T, typename W>
struct Groups {
  NormBackward<T, W> norm;
  int64_t rows_per_group = 0;
};

// Sums over rows of what a thread's columns bring, for dgamma and (kSums 2) dbeta. `to` is the group's
// [kSums, columns]; they lie there from the start where nothing is held.
template <int kSums, int kWidth, int kPacks>
class ColumnSums {
 public:
  __device__ __forceinline__ ColumnSums(float* to, int columns) : to_(to), columns_(columns) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) held_[s][i][k] = 0;
      }
    }
  }
  template <int kSum>
  __device__ __forceinline__ void add(int i, int column, bool is_first, const Floats<kWidth>& values) {
    if constexpr (kPacks > 0) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) held_[kSum][i][k] += values[k];
    } else {
      float* at = to_ + kSum * columns_ + column;
      Floats<kWidth> sum = values;
      if (!is_first) {
        sum = load_floats<kWidth>(at);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sum[k] += values[k];
      }
      store_floats(at, sum);
    }
  }
  // To [kSums, columns] of `to`, of one thread or of one warp of several.
  __device__ __forceinline__ void write(float* to, const RowWalk<kWidth, kPacks>& walk) const {
    walk.for_each([&](int i, int column) {
#pragma unroll
      for (int s = 0; s < kSums; ++s) store_floats(to + s * columns_ + column, held_[s][i]);
    });
  }

 private:
  static constexpr int kHeld = kPacks > 0 ? kPacks : 1;
  float* to_;
  int columns_;
  Floats<kWidth> held_[kSums][kHeld];
};

// Of the group's `rows` rows from `begin` on those of one team.
template <typename T, typename W, bool kCentred, Team kTeam, int kWidth, int kPacks, typename Sums>
__device__ __forceinline__ void backward_rows(const NormBackward<T, W>& norm, int64_t begin, int rows,
                                              RowTeam<kTeam>& team, const RowWalk<kWidth, kPacks>& walk, Sums& sums) {
  const float share = 1.0f / static_cast<float>(norm.columns);
  const int first = team.index();
  for (int in_group = first; in_group < rows; in_group += team.teams()) {
    const int64_t row = begin + in_group, offset = row * norm.columns;
    const float mean = kCentred ? norm.mean[row] : 0.0f, rstd = norm.rstd[row];
    HeldRow<T, kWidth, kPacks> x, dy;
    x.load_from(norm.x + offset, walk);
    dy.load_from(norm.dy + offset, walk);

    float totals[2] = {0, 0};  // of g n and of g
    walk.for_each([&](int i, int column) {
      const Floats<kWidth> gamma = load_floats<kWidth>(norm.gamma + column), v = x.values(i, column),
                           slope = dy.values(i, column);
      Floats<kWidth> along;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const float normal = kCentred ? (v[k] - mean) * rstd : v[k] * rstd, g = slope[k] * gamma[k];
        along[k] = slope[k] * normal;
        totals[0] += g * normal;
        if constexpr (kCentred) totals[1] += g;
      }
      sums.template add<0>(i, column, in_group == first, along);
      if constexpr (kCentred) sums.template add<1>(i, column, in_group == first, slope);
    });
    float average_dot, average = 0;
    if constexpr (kCentred) {
      team.reduce(totals, Sum());
      average = totals[1] * share;
      average_dot = totals[0] * share;
    } else {
      average_dot = team.reduce(totals[0], Sum()) * share;
    }

    walk.for_each([&](int i, int column) {
      const Floats<kWidth> gamma = load_floats<kWidth>(norm.gamma + column), v = x.values(i, column);
      Floats<kWidth> out = dy.values(i, column);
      Pack<T, kWidth> residual = {};
      if (norm.residual != nullptr) residual = load<kWidth>(norm.residual + offset + column);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const float normal = kCentred ? (v[k] - mean) * rstd : v[k] * rstd;
        out[k] = (out[k] * gamma[k] - average - normal * average_dot) * rstd + to_float(residual.value[k]);
      }
      store_floats(norm.dx + offset + column, out);
    });
  }
}

// Of a multiprocessor, so that the loads of one hide the latencies of the other.
template <typename T, Team kTeam, int kWidth>
constexpr int kBlocksAtOnce = kTeam == Team::warp && sizeof(T) == 2 && kWidth > 1 ? 2 : 1;

// One group of rows a block. kElements: what a thread holds of a row; 0: nothing is held.
template <typename T, typename W, bool kCentred, Team kTeam, int kWidth, int kElements, int kThreads>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<T, kTeam, kWidth>) norm_backward_kernel(Groups<T, W> groups) {
  constexpr int kPacks = kElements / kWidth, kSums = kCentred ? 2 : 1;
  const NormBackward<T, W>& norm = groups.norm;
  const int columns = static_cast<int>(norm.columns);
  RowTeam<kTeam> team;
  const RowWalk<kWidth, kPacks> walk{columns, team.thread(), team.threads()};
  const int64_t begin = blockIdx.x * groups.rows_per_group;
  const int rows = static_cast<int>(min(norm.rows - begin, groups.rows_per_group));
  float* partial = norm.workspace + blockIdx.x * kSums * norm.columns;
  ColumnSums<kSums, kWidth, kPacks> sums(partial, columns);
  backward_rows<T, W, kCentred, kTeam>(norm, begin, rows, team, walk, sums);
  if constexpr (kTeam == Team::warp) {
    float* of_warps = dynamic_shared<float>();  // [warps, kSums, columns]
    const int elements = kSums * columns;
    sums.write(of_warps + team.index() * elements, walk);
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < elements; c += kThreads) {
      float sum = of_warps[c];
#pragma unroll
      for (int warp = 1; warp < kThreads / 32; ++warp) sum += of_warps[warp * elements + c];
      partial[c] = sum;
    }
  } else if constexpr (kPacks > 0) {
    sums.write(partial, walk);
  }
}

// dgamma (blockIdx.y 0) and dbeta (1): the groups' rows of partial sums added up, 32 columns a block, each in 32
// strides that are then added by a tree.
constexpr int kLanes = 32;
__global__ void __launch_bounds__(kLanes* kLanes)
    sum_groups_kernel(const float* partials, int64_t groups, int64_t columns, float* dgamma, float* dbeta) {
  __shared__ float strides[kLanes][kLanes + 1];
  const int lane = static_cast<int>(threadIdx.x) % kLanes, warp = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t column = int64_t{blockIdx.x} * kLanes + lane, step = gridDim.y * columns;
  float sum = 0;
  if (column < columns) {
    const float* from = partials + blockIdx.y * columns + column;
#pragma unroll 8
    for (int64_t group = warp; group < groups; group += kLanes) sum += from[group * step];
  }
  strides[warp][lane] = sum;
  __syncthreads();
  const float total = warp_reduce(strides[lane][warp], Sum());  // of column `warp`
  const int64_t own = int64_t{blockIdx.x} * kLanes + warp;
  if (lane == 0 && own < columns) (blockIdx.y == 0 ? dgamma : dbeta)[own] = total;
}

template <bool kCentred, int kWidth, typename T, typename W>
void launch_groups(const Groups<T, W>& groups, unsigned blocks, cudaStream_t stream) {
  constexpr int kInWarp = kWidth > 1 ? 32 : 16, kInBlock = kWidth > 1 ? 16 : 8;
  constexpr bool kFitsMost = kWidth > 1 && !kCentred && sizeof(T) == 2;  // in the registers of 1024 threads
  const int64_t columns = groups.norm.columns, per_lane = (columns + 31) / 32,
                threads = (columns + 32 * kInBlock - 1) / (32 * kInBlock) * 32;
  if (per_lane <= kInWarp) {
    auto kernel = norm_backward_kernel<T, W, kCentred, Team::warp, kWidth, kInWarp, kWarpBlock>;
    if constexpr (kWidth > 1) {
      if (per_lane <= 16) kernel = norm_backward_kernel<T, W, kCentred, Team::warp, kWidth, 16, kWarpBlock>;
      if (per_lane <= 8) kernel = norm_backward_kernel<T, W, kCentred, Team::warp, kWidth, 8, kWarpBlock>;
    }
    const int64_t shared_bytes = kWarpBlock / 32 * (kCentred ? 2 : 1) * columns * int64_t{sizeof(float)};
    return launch(kernel, blocks, kWarpBlock, shared_bytes, stream, groups);
  }
  if (threads <= kBlock)
    return launch(norm_backward_kernel<T, W, kCentred, Team::block, kWidth, kInBlock, kBlock>, blocks,
                  static_cast<unsigned>(threads), 0, stream, groups);
  if constexpr (kFitsMost) {
    if (threads <= kMostBlock)
      return launch(norm_backward_kernel<T, W, kCentred, Team::block, kWidth, kInBlock, kMostBlock>, blocks,
                    static_cast<unsigned>(threads), 0, stream, groups);
  }
  launch(norm_backward_kernel<T, W, kCentred, Team::block, kWidth, 0, kBlock>, blocks, kBlock, 0, stream, groups);
}

template <bool kCentred, typename T, typename W>
void backward(const NormBackward<T, W>& norm, cudaStream_t stream) {
  const int64_t wanted = group_count(norm.rows);
  Groups<T, W> groups{norm, wanted ? (norm.rows + wanted - 1) / wanted : 0};
  const int64_t count = wanted ? (norm.rows + groups.rows_per_group - 1) / groups.rows_per_group : 0;
  if (count > 0) {
    const auto blocks = static_cast<unsigned>(count);
    if (norm.columns % kPackSize<T> == 0 &&
        are_aligned(16, norm.x, norm.dy, norm.residual, norm.dx, norm.gamma, norm.workspace))
      launch_groups<kCentred, kPackSize<T>>(groups, blocks, stream);
    else
      launch_groups<kCentred, 1>(groups, blocks, stream);
  }
  launch(sum_groups_kernel, dim3(blocks_for(norm.columns, kLanes), kCentred ? 2 : 1), kLanes * kLanes, 0, stream,
         norm.workspace, count, norm.columns, norm.dgamma, norm.dbeta);
}

}  // namespace

int64_t norm_backward_workspace(int64_t rows, int64_t columns, bool has_mean) {
  return group_count(rows) * (has_mean ? 2 : 1) * columns * int64_t{sizeof(float)};
}

template <typename T, typename W>
void norm_backward(const NormBackward<T, W>& norm, cudaStream_t stream) {
  if (norm.dbeta != nullptr)
    backward<true>(norm, stream);
  else
    backward<false>(norm, stream);
}

template void norm_backward<float, float>(const NormBackward<float, float>&, cudaStream_t);
template void norm_backward<bf16, bf16>(const NormBackward<bf16, bf16>&, cudaStream_t);
template void norm_backward<bf16, float>(const NormBackward<bf16, float>&, cudaStream_t);

}  // namespace tessera::cuda
