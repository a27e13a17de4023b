// A radix sort from the last digit up, stable, so places stay in order; what it costs does not depend on the ids.
// Bound by memory, within L2 as a rule: each of the two or three digits reads (row, place) twice and writes it
// once, 24 bytes an id; a million ids take about 50 MB of that, some 20 us, and 8192 the time of the launches.
//
// A digit takes three kernels: tiles of ids count their digits, each digit's counts are summed up over the tiles,
// and tiles place their ids. Within a tile ids are in the order (warp, step, lane): ranks come from ballots of the
// lanes with the same digit, so nothing depends on the order in which threads run.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/vocabulary/sort_ids.h"

namespace tessera::cuda {
namespace {

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits, kThreads = kDigits, kWarps = kThreads / 32, kSteps = 8,
              kTile = kThreads * kSteps;
constexpr uint32_t kAllLanes = 0xffffffffu;

int64_t tiles_of(int64_t count) { return (count + kTile - 1) / kTile; }
int64_t aligned(int64_t bytes) { return (bytes + 15) / 16 * 16; }

// Where a pass finds its ids: first the op's operand, then what the pass before wrote.
template <typename Id>
struct FromIds {
  TableRows<Id> ids;
  __device__ __forceinline__ uint32_t row(int64_t i) const {
    const int64_t row = static_cast<int64_t>(ids.ids[i]) - (ids.start != nullptr ? *ids.start : 0);
    return static_cast<uint32_t>(row >= 0 && row < ids.rows ? row : ids.rows);
  }
  __device__ __forceinline__ uint32_t place(int64_t i) const { return static_cast<uint32_t>(i); }
};
struct FromPass {
  const uint32_t *rows, *places;
  __device__ __forceinline__ uint32_t row(int64_t i) const { return rows[i]; }
  __device__ __forceinline__ uint32_t place(int64_t i) const { return places[i]; }
};

// A warp's counters of digits. digit kDigits: none. Returns what the digit's counter was before the lanes below
// this one (of the same digit) counted, plus their number.
__device__ __forceinline__ uint32_t count_digit(uint32_t* counters, uint32_t digit) {
  const uint32_t same = __match_any_sync(kAllLanes, digit), lane = threadIdx.x % 32,
                 below = same & ((1u << lane) - 1);
  const uint32_t before = digit < kDigits ? counters[digit] : 0;
  __syncwarp();
  if (digit < kDigits && below == 0) counters[digit] = before + static_cast<uint32_t>(__popc(same));
  __syncwarp();
  return before + static_cast<uint32_t>(__popc(below));
}

// Calls body(i, digit) for this thread's ids of the tile, in order; digit is kDigits past the last id.
template <typename From, typename Body>
__device__ __forceinline__ void for_each_of_tile(const From& from, int64_t count, int shift, Body&& body) {
  const int64_t first = int64_t{blockIdx.x} * kTile + threadIdx.x / 32 * (32 * kSteps) + threadIdx.x % 32;
  for (int s = 0; s < kSteps; ++s) {
    const int64_t i = first + s * 32;
    body(i, i < count ? from.row(i) >> shift & (kDigits - 1) : uint32_t{kDigits});
  }
}

template <typename From>
__device__ __forceinline__ void count_tile(const From& from, int64_t count, int shift,
                                           uint32_t (&counters)[kWarps][kDigits]) {
  for (int w = 0; w < kWarps; ++w) counters[w][threadIdx.x] = 0;
  __syncthreads();
  for_each_of_tile(from, count, shift,
                   [&](int64_t, uint32_t digit) { count_digit(counters[threadIdx.x / 32], digit); });
  __syncthreads();
}

// counts [kDigits, tiles]
template <typename From>
__global__ void __launch_bounds__(kThreads) count_digits_kernel(From from, int64_t count, int shift, uint32_t* counts) {
  __shared__ uint32_t counters[kWarps][kDigits];
  count_tile(from, count, shift, counters);
  uint32_t sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += counters[w][threadIdx.x];
  counts[int64_t{threadIdx.x} * gridDim.x + blockIdx.x] = sum;
}

// The sum of the values of the threads before this one; `total` is that of all. Ends in a barrier.
__device__ __forceinline__ uint32_t sum_before(uint32_t value, uint32_t& total) {
  __shared__ uint32_t of_warps[kWarps];
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t sum = value;
#pragma unroll
  for (uint32_t delta = 1; delta < 32; delta *= 2) {
    const uint32_t other = __shfl_up_sync(kAllLanes, sum, delta);
    if (lane >= delta) sum += other;
  }
  if (lane == 31) of_warps[warp] = sum;
  __syncthreads();
  uint32_t before = 0;
  total = 0;
  for (uint32_t w = 0; w < kWarps; ++w) {
    if (w < warp) before += of_warps[w];
    total += of_warps[w];
  }
  __syncthreads();
  return before + sum - value;
}

// One digit a block: its counts become the numbers of its ids in the tiles before; totals [kDigits].
__global__ void __launch_bounds__(kThreads) sum_tiles_kernel(uint32_t* counts, int64_t tiles, uint32_t* totals) {
  uint32_t* of_digit = counts + blockIdx.x * tiles;
  uint32_t so_far = 0;
  for (int64_t first = 0; first < tiles; first += kThreads) {
    const int64_t tile = first + threadIdx.x;
    uint32_t total;
    const uint32_t before = sum_before(tile < tiles ? of_digit[tile] : 0, total);
    if (tile < tiles) of_digit[tile] = so_far + before;
    so_far += total;
  }
  if (threadIdx.x == 0) totals[blockIdx.x] = so_far;
}

template <typename From>
__global__ void __launch_bounds__(kThreads)
    place_ids_kernel(From from, int64_t count, int shift, const uint32_t* counts, const uint32_t* totals,
                     uint32_t* rows, uint32_t* places) {
  __shared__ uint32_t counters[kWarps][kDigits];
  count_tile(from, count, shift, counters);
  uint32_t total;
  uint32_t next = sum_before(totals[threadIdx.x], total) + counts[int64_t{threadIdx.x} * gridDim.x + blockIdx.x];
  for (int w = 0; w < kWarps; ++w) {
    const uint32_t of_warp = counters[w][threadIdx.x];
    counters[w][threadIdx.x] = next;
    next += of_warp;
  }
  __syncthreads();
  for_each_of_tile(from, count, shift, [&](int64_t i, uint32_t digit) {
    const uint32_t to = count_digit(counters[threadIdx.x / 32], digit);
    if (digit == kDigits) return;
    rows[to] = from.row(i);
    places[to] = from.place(i);
  });
}

struct Buffers {
  uint32_t *counts, *totals;
};
template <typename From>
void sort_digit(const From& from, int64_t count, int shift, const Buffers& buffers, uint32_t* rows, uint32_t* places,
                cudaStream_t stream) {
  const int64_t tiles = tiles_of(count);
  const auto blocks = static_cast<unsigned>(tiles);
  launch(count_digits_kernel<From>, blocks, kThreads, 0, stream, from, count, shift, buffers.counts);
  launch(sum_tiles_kernel, kDigits, kThreads, 0, stream, buffers.counts, tiles, buffers.totals);
  launch(place_ids_kernel<From>, blocks, kThreads, 0, stream, from, count, shift, buffers.counts, buffers.totals, rows,
         places);
}

}  // namespace

int64_t sort_ids_workspace(int64_t /*rows*/, int64_t count) {
  return 4 * aligned(count * 4) + aligned(kDigits * tiles_of(count) * 4) + kDigits * 4;
}

template <typename Id>
SortedIds sort_ids(const TableRows<Id>& ids, void* workspace, cudaStream_t stream) {
  auto* at = static_cast<unsigned char*>(workspace);
  auto take = [&](int64_t elements) {
    auto* taken = reinterpret_cast<uint32_t*>(at);
    at += aligned(elements * 4);
    return taken;
  };
  uint32_t *rows[2], *places[2];
  for (int b = 0; b < 2; ++b) {
    rows[b] = take(ids.count);
    places[b] = take(ids.count);
  }
  Buffers buffers;
  buffers.counts = take(kDigits * tiles_of(ids.count));
  buffers.totals = take(kDigits);
  int side = 0;
  sort_digit(FromIds<Id>{ids}, ids.count, 0, buffers, rows[0], places[0], stream);
  for (int shift = kDigitBits; ids.rows >> shift != 0; shift += kDigitBits, side ^= 1)
    sort_digit(FromPass{rows[side], places[side]}, ids.count, shift, buffers, rows[side ^ 1], places[side ^ 1], stream);
  return {rows[side], places[side]};
}

template SortedIds sort_ids<int32_t>(const TableRows<int32_t>&, void*, cudaStream_t);
template SortedIds sort_ids<int64_t>(const TableRows<int64_t>&, void*, cudaStream_t);

}  // namespace tessera::cuda
