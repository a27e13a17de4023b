// Bound by memory: there, a token is read once and written k times; back, k rows are read and one is written;
// the dots read both. 8192 tokens of 4096 in bf16 with k = 2 are 201 MB there or back, 42 us at 4.8 TB/s. Not yet
// timed on a GPU. A warp moves up to 128 packs of a token, with four loads in flight a thread.
//
// Every sum has one thread or warp and a fixed order: nothing depends on the order in which threads run.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/routing/permute_tokens.h"
#include "kernels/cuda/vocabulary/sort_ids.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kAhead = 4;

// ---- the order by expert ------------------------------------------------------------------------

// How many of the sorted experts are below `expert`.
__device__ __forceinline__ int64_t count_below(const uint32_t* experts, int64_t count, uint32_t expert) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (experts[middle] < expert)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

__global__ void __launch_bounds__(kThreads)
    expert_order_kernel(SortedIds sorted, int64_t count, int64_t groups, int32_t* places, int32_t* sizes) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) places[sorted.places[i]] = static_cast<int32_t>(i);
  if (i < groups) {
    const auto expert = static_cast<uint32_t>(i);
    sizes[i] = static_cast<int32_t>(count_below(sorted.rows, count, expert + 1) -
                                    count_below(sorted.rows, count, expert));
  }
}

// ---- moves --------------------------------------------------------------------------------------

// A warp's part of a token: packs first, first + 32 ... , `chunks` of them a token.
struct Part {
  int64_t token, first;
};
__device__ __forceinline__ Part part_of(int64_t item, int64_t chunks) {
  const int64_t token = item / chunks;
  return {token, (item - token * chunks) * (32 * kAhead) + threadIdx.x % 32};
}

// Row of a choice, or -1.
__device__ __forceinline__ int64_t row_of(const TokenMoves& moves, int64_t choice) {
  const int64_t row = moves.places[choice];
  return row < moves.rows ? row : -1;
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    permute_tokens_kernel(TokenMoves moves, const T* x, const float* weights, T* rows, int64_t packs, int64_t chunks) {
  const int64_t step = int64_t{gridDim.x} * kWarps;
  for (int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; item < moves.tokens * chunks; item += step) {
    const Part part = part_of(item, chunks);
    Pack<T, kPack> held[kAhead] = {};
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      if (part.first + 32 * a < packs) held[a] = load<kPack>(x + part.token * moves.width + (part.first + 32 * a) * kPack);
    for (int64_t choice = part.token * moves.k; choice < (part.token + 1) * moves.k; ++choice) {
      const int64_t row = row_of(moves, choice);
      if (row < 0) continue;
      const float weight = weights != nullptr ? weights[choice] : 1.0f;
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (part.first + 32 * a >= packs) continue;
        Floats<kPack> values = to_floats(held[a]);
#pragma unroll
        for (int i = 0; i < kPack; ++i) values[i] *= weight;
        store_global(rows + row * moves.width + (part.first + 32 * a) * kPack, to_pack<T>(values));
      }
    }
  }
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    unpermute_tokens_kernel(TokenMoves moves, const T* rows, const float* weights, T* y, int64_t packs, int64_t chunks) {
  const int64_t step = int64_t{gridDim.x} * kWarps;
  for (int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; item < moves.tokens * chunks; item += step) {
    const Part part = part_of(item, chunks);
    Floats<kPack> sum[kAhead] = {};
    for (int64_t choice = part.token * moves.k; choice < (part.token + 1) * moves.k; ++choice) {
      const int64_t row = row_of(moves, choice);
      if (row < 0) continue;
      const float weight = weights != nullptr ? weights[choice] : 1.0f;
      Pack<T, kPack> held[kAhead] = {};
#pragma unroll
      for (int a = 0; a < kAhead; ++a)
        if (part.first + 32 * a < packs) held[a] = load<kPack>(rows + row * moves.width + (part.first + 32 * a) * kPack);
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const Floats<kPack> values = to_floats(held[a]);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum[a][i] = fmaf(weight, values[i], sum[a][i]);
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      if (part.first + 32 * a < packs)
        store_global(y + part.token * moves.width + (part.first + 32 * a) * kPack, to_pack<T>(sum[a]));
  }
}

// A warp has a choice.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    token_dots_kernel(TokenMoves moves, const T* rows, const T* x, float* dots, int64_t packs) {
  const int64_t step = int64_t{gridDim.x} * kWarps;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t choice = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; choice < moves.tokens * moves.k;
       choice += step) {
    const int64_t row = row_of(moves, choice);
    const T *left = rows + row * moves.width, *right = x + choice / moves.k * moves.width;
    float sum = 0.0f;
    if (row >= 0) {
#pragma unroll 2
      for (int64_t pack = lane; pack < packs; pack += 32) {
        const Floats<kPack> a = to_floats(load<kPack>(left + pack * kPack)), b = to_floats(load<kPack>(right + pack * kPack));
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum = fmaf(a[i], b[i], sum);
      }
    }
    sum = warp_reduce(sum, Sum());
    if (lane == 0) dots[choice] = sum;
  }
}

// Calls body<kPack>(packs of a row, warps' parts of it) with packs of 16 bytes where all rows are made of them.
template <typename T, typename Body, typename... Pointers>
void dispatch_packs(int64_t width, Body&& body, Pointers... pointers) {
  const auto call = [&]<int kPack>() {
    const int64_t packs = width / kPack;
    body.template operator()<kPack>(packs, (packs + 32 * kAhead - 1) / (32 * kAhead));
  };
  if (width % kPackSize<T> == 0 && are_aligned(16, pointers...)) return call.template operator()<kPackSize<T>>();
  call.template operator()<1>();
}

// Launches kernel_of<kPack>(), there or back.
template <typename T, typename KernelOf>
void move_tokens(const TokenMoves& moves, KernelOf&& kernel_of, const T* from, const float* weights, T* to,
                 cudaStream_t stream) {
  dispatch_packs<T>(
      moves.width,
      [&]<int kPack>(int64_t packs, int64_t chunks) {
        launch(kernel_of.template operator()<kPack>(), dim3(blocks_for(moves.tokens * chunks, kWarps)), dim3(kThreads),
               0, stream, moves, from, weights, to, packs, chunks);
      },
      from, to);
}

}  // namespace

int64_t expert_order_workspace(int64_t groups, int64_t count) { return sort_ids_workspace(groups, count); }

void expert_order(const int32_t* experts, int64_t count, int64_t groups, int32_t* places, int32_t* sizes,
                  void* workspace, cudaStream_t stream) {
  if (count == 0 && groups == 0) return;
  SortedIds sorted;
  if (count > 0) {
    TableRows<int32_t> ids;
    ids.rows = groups;
    ids.count = count;
    ids.ids = experts;
    sorted = sort_ids(ids, workspace, stream);
  }
  launch(expert_order_kernel, dim3(blocks_for(count > groups ? count : groups, kThreads)), dim3(kThreads), 0, stream,
         sorted, count, groups, places, sizes);
}

template <typename T>
void permute_tokens(const TokenMoves& moves, const T* x, const float* weights, T* rows, cudaStream_t stream) {
  if (moves.tokens * moves.k * moves.width == 0) return;
  move_tokens<T>(moves, []<int kPack>() { return &permute_tokens_kernel<T, kPack>; }, x, weights, rows, stream);
}

template <typename T>
void unpermute_tokens(const TokenMoves& moves, const T* rows, const float* weights, T* y, cudaStream_t stream) {
  if (moves.tokens * moves.width == 0) return;
  move_tokens<T>(moves, []<int kPack>() { return &unpermute_tokens_kernel<T, kPack>; }, rows, weights, y, stream);
}

template <typename T>
void token_dots(const TokenMoves& moves, const T* rows, const T* x, float* dots, cudaStream_t stream) {
  if (moves.tokens * moves.k == 0) return;
  dispatch_packs<T>(
      moves.width,
      [&]<int kPack>(int64_t packs, int64_t) {
        launch(token_dots_kernel<T, kPack>, dim3(blocks_for(moves.tokens * moves.k, kWarps)), dim3(kThreads), 0, stream,
               moves, rows, x, dots, packs);
      },
      rows, x);
}

#define TESSERA_INSTANCES(T)                                                                           \
  template void permute_tokens(const TokenMoves&, const T*, const float*, T*, cudaStream_t);          \
  template void unpermute_tokens(const TokenMoves&, const T*, const float*, T*, cudaStream_t);        \
  template void token_dots(const TokenMoves&, const T*, const T*, float*, cudaStream_t);
TESSERA_INSTANCES(float)
TESSERA_INSTANCES(bf16)
#undef TESSERA_INSTANCES

}  // namespace tessera::cuda
