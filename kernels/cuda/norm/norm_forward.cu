// Bound by memory: x is read and y written once, 2 * sizeof(T) bytes an element, so 8192 rows of 768 in bf16
// are 25 MB, 5 us at 4.8 TB/s. gamma and beta come from L1 and L2. A row is held in registers by a warp (up to
// 1024 columns) or by a block (up to 16384); longer rows are read three times, of which L2 serves two. Rows that
// are no multiple of 16 bytes go by single elements, and half as many are held.
//
// With a residual two tensors are read and two written, 50 MB and 10 us; a sum before the norm would make it five
// passes instead of four.
//
// Mean and variance are two sums over the held row, both of differences to the row's first element, so that a
// large common offset costs no digits.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/norm/held_row.h"
#include "kernels/cuda/norm/norm.h"

namespace tessera::cuda {
namespace {

constexpr int kWarpBlock = 128, kLongBlock = 512, kMostBlock = 1024;
// What a thread holds of a row at most. Narrow accesses keep an address each in registers.
template <int kWidth>
constexpr int kWarpElements = kWidth > 1 ? 32 : 16;
template <int kWidth>
constexpr int kBlockElements = kWidth > 1 ? 16 : 8;

// Of a multiprocessor: 72 registers for the threads of bf16.
template <typename T, Team kTeam, int kWidth>
constexpr int kBlocksAtOnce = kTeam == Team::warp && sizeof(T) == 2 && kWidth > 1 ? 7 : 1;

// kElements: what a thread holds of a row; 0: nothing is held.
template <typename T, typename W, bool kCentred, Team kTeam, int kWidth, int kElements>
__global__ void __launch_bounds__(kTeam == Team::warp ? kWarpBlock : kMostBlock, kBlocksAtOnce<T, kTeam, kWidth>)
    norm_forward_kernel(NormForward<T, W> norm) {
  constexpr int kPacks = kElements / kWidth;
  RowTeam<kTeam> team;
  const RowWalk<kWidth, kPacks> walk{static_cast<int>(norm.columns), team.thread(), team.threads()};
  const float share = 1.0f / static_cast<float>(norm.columns);
  for (int64_t row = team.first_row(); row < norm.rows; row += team.row_step()) {
    const T *x = norm.x + row * norm.columns, *residual = norm.residual + row * norm.columns;
    const bool has_residual = norm.residual != nullptr;
    float shift = 0, centre = 0;  // the mean is their sum
    if constexpr (kCentred) {
      shift = to_float(x[0]);
      if (has_residual) shift = to_float(from_float<T>(shift + to_float(residual[0])));
      // The sum may be written over x at once.
      if constexpr (kPacks == 0) __syncthreads();
    }
    HeldRow<T, kWidth, kPacks> held;
    if (has_residual)
      held.load_sum(x, residual, norm.sum + row * norm.columns, walk);
    else
      held.load_from(x, walk);

    if constexpr (kCentred) {
      float sum = 0;
      walk.for_each([&](int i, int column) {
        const Floats<kWidth> v = held.values(i, column);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sum += v[k] - shift;
      });
      centre = team.reduce(sum, Sum()) * share;
    }
    float squares = 0;
    walk.for_each([&](int i, int column) {
      const Floats<kWidth> v = held.values(i, column);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const float difference = kCentred ? v[k] - shift - centre : v[k];
        squares += difference * difference;
      }
    });
    const float rstd = 1.0f / sqrtf(team.reduce(squares, Sum()) * share + norm.epsilon);

    walk.for_each([&](int i, int column) {
      Floats<kWidth> v = held.values(i, column);
      const Floats<kWidth> gamma = load_floats<kWidth>(norm.gamma + column);
      if constexpr (kCentred) {
        const Floats<kWidth> beta = load_floats<kWidth>(norm.beta + column);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) v[k] = (v[k] - shift - centre) * rstd * gamma[k] + beta[k];
      } else {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) v[k] = v[k] * rstd * gamma[k];
      }
      if (has_residual) held.store_held(norm.sum + row * norm.columns, i, column);
      store_floats(norm.y + row * norm.columns + column, v);
    });
    if (team.thread() == 0) {
      if constexpr (kCentred) norm.mean[row] = shift + centre;
      norm.rstd[row] = rstd;
    }
  }
}

template <bool kCentred, int kWidth, typename T, typename W>
void launch_forward(const NormForward<T, W>& norm, cudaStream_t stream) {
  constexpr int kInWarp = kWarpElements<kWidth>, kInBlock = kBlockElements<kWidth>;
  const int64_t per_lane = (norm.columns + 31) / 32, warps = (norm.columns + 32 * kInBlock - 1) / (32 * kInBlock);
  if (per_lane <= kInWarp) {
    auto kernel = norm_forward_kernel<T, W, kCentred, Team::warp, kWidth, kInWarp>;
    if constexpr (kWidth > 1) {
      if (per_lane <= 16) kernel = norm_forward_kernel<T, W, kCentred, Team::warp, kWidth, 16>;
      if (per_lane <= 8) kernel = norm_forward_kernel<T, W, kCentred, Team::warp, kWidth, 8>;
    }
    return launch(kernel, blocks_for(norm.rows, kWarpBlock / 32), kWarpBlock, 0, stream, norm);
  }
  if (warps * 32 <= kMostBlock)
    return launch(norm_forward_kernel<T, W, kCentred, Team::block, kWidth, kInBlock>, blocks_for(norm.rows, 1),
                  static_cast<unsigned>(warps * 32), 0, stream, norm);
  launch(norm_forward_kernel<T, W, kCentred, Team::block, kWidth, 0>, blocks_for(norm.rows, 1), kLongBlock, 0,
         stream, norm);
}

template <bool kCentred, typename T, typename W>
void choose_width(const NormForward<T, W>& norm, cudaStream_t stream) {
  if (norm.columns % kPackSize<T> == 0 && are_aligned(16, norm.x, norm.residual, norm.y, norm.sum, norm.gamma, norm.beta))
    launch_forward<kCentred, kPackSize<T>>(norm, stream);
  else
    launch_forward<kCentred, 1>(norm, stream);
}

}  // namespace

template <typename T, typename W>
void norm_forward(const NormForward<T, W>& norm, cudaStream_t stream) {
  if (norm.rows == 0) return;
  if (norm.mean != nullptr)
    choose_width<true>(norm, stream);
  else
    choose_width<false>(norm, stream);
}

template void norm_forward<float, float>(const NormForward<float, float>&, cudaStream_t);
template void norm_forward<bf16, bf16>(const NormForward<bf16, bf16>&, cudaStream_t);
template void norm_forward<bf16, float>(const NormForward<bf16, float>&, cudaStream_t);

}  // namespace tessera::cuda
