// Bound by memory: dy is read once and the table written once in f32. 8192 tokens of a table [50304, 768] in
// bf16: 13 MB and 155 MB, 35 us at 4.8 TB/s; a million tokens: 1.6 GB and 155 MB, 370 us. Sorting the ids adds
// what sort_ids.cu says, whatever the ids are.
//
// Ids are sorted by row. Then each warp sums a tile of 64 places of that order for a chunk of columns and writes
// each row whose places end there. A row that reaches over the edge of its tile leaves a partial sum: at most two
// a tile, in the order of the rows, which the same kernel then sums in the same way, 32 times fewer each time,
// until one tile is left. So the work is even, even where all tokens share one id, no sum waits for another, and
// nothing depends on the order in which threads run. At most 1/16 of dy's elements are written as partial sums.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/vocabulary/embedding_grad.h"
#include "kernels/cuda/vocabulary/sort_ids.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 128, kTile = 64, kAhead = 8;
constexpr uint32_t kNone = 0xffffffffu, kAllLanes = 0xffffffffu;

int64_t tiles_of(int64_t count) { return (count + kTile - 1) / kTile; }

// Rows of values in the order of the table's rows that they belong to. rows[i] is no row of the table for what
// takes no part; places[i] is kNone for a sum of nothing, else a row of the values.
struct Ordered {
  const uint32_t *rows, *places;
  int64_t count;
};
// What is left over of a level's tiles: [2 * tiles] entries, of each tile's first row and of its last.
struct Partials {
  uint32_t *rows, *places;
  float* values;  // [2 * tiles, width]
};

// Columns [column, column + kWidth) of a tile.
template <typename T, int kWidth>
class TileSum {
 public:
  __device__ __forceinline__ TileSum(const Ordered& from, const T* values, int64_t width, int64_t table_rows, int64_t column)
      : from_(from), values_(values), width_(width), table_rows_(table_rows), column_(column) {}

  __device__ __forceinline__ void run(int64_t tile, float* table, const Partials& partials) {
    const int64_t begin = tile * kTile, end = min(from_.count, begin + kTile);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t first = from_.rows[begin], last = from_.rows[end - 1];
    const bool goes_on = end < from_.count && from_.rows[end] == last && last < table_rows_,
               came_from_before = begin > 0 && from_.rows[begin - 1] == first && first < table_rows_;
    uint32_t row = first;
    clear();
    for (int64_t half = begin; half < end; half += 32) {
      const bool is_there = half + lane < end;
      const uint32_t my_row = is_there ? from_.rows[half + lane] : kNone,
                     my_place = is_there ? from_.places[half + lane] : kNone;
      for (int at = 0; at < 32 && half + at < end; at += kAhead) {
        Pack<T, kWidth> packs[kAhead];
        uint32_t rows[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          rows[a] = __shfl_sync(kAllLanes, my_row, at + a);
          const uint32_t place = __shfl_sync(kAllLanes, my_place, at + a);
          packs[a] = {};  // a sum of nothing
          if (rows[a] < table_rows_ && place != kNone && column_ < width_)
            packs[a] = load<kWidth>(values_ + int64_t{place} * width_ + column_);
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          if (half + at + a >= end) break;
          if (rows[a] != row) {
            if (row == first && came_from_before)
              write(partials.values, 2 * tile);
            else if (row < table_rows_)
              write(table, row);
            clear();
            row = rows[a];
          }
          const Floats<kWidth> values = to_floats<T, kWidth>(packs[a]);
#pragma unroll
          for (int k = 0; k < kWidth; ++k) sum_[k] += values[k];
        }
      }
    }
    // The last row: wholly here, or begun before (then it may be the tile's only one), or going on.
    const bool is_only = row == first && came_from_before;
    if (is_only || goes_on)
      write(partials.values, 2 * tile + (is_only ? 0 : 1));
    else if (row < table_rows_)
      write(table, row);
    if (partials.rows != nullptr && column_ == 0) {
      partials.rows[2 * tile] = came_from_before ? first : kNone;
      partials.places[2 * tile] = static_cast<uint32_t>(2 * tile);
      partials.rows[2 * tile + 1] = goes_on ? last : kNone;
      partials.places[2 * tile + 1] = is_only ? kNone : static_cast<uint32_t>(2 * tile + 1);
    }
  }

 private:
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) sum_[k] = 0;
  }
  __device__ __forceinline__ void write(float* to, int64_t row) const {
    if (column_ < width_) store_floats(to + row * width_ + column_, sum_);
  }

  Ordered from_;
  const T* values_;
  int64_t width_, table_rows_, column_;
  Floats<kWidth> sum_;
};

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    sum_tiles_kernel(Ordered from, const T* values, int64_t width, int64_t table_rows, int64_t chunks, float* table,
                     Partials partials) {
  const int64_t item = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32, tile = item / chunks;
  if (tile * kTile >= from.count) return;
  const int64_t column = ((item - tile * chunks) * 32 + threadIdx.x % 32) * kWidth;
  TileSum<T, kWidth>(from, values, width, table_rows, column).run(tile, table, partials);
}

// Zeros in the rows of the table that no id names, 64 rows a block.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    zero_absent_kernel(const uint32_t* sorted, int64_t count, int64_t table_rows, int64_t width, float* table) {
  constexpr int kRows = 64;
  __shared__ bool is_absent[kRows];
  const int64_t first = int64_t{blockIdx.x} * kRows;
  if (threadIdx.x < kRows) {
    const int64_t row = first + threadIdx.x;
    int64_t low = 0, high = count;  // the first place not below the row lies in [low, high]
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (sorted[middle] < row)
        low = middle + 1;
      else
        high = middle;
    }
    is_absent[threadIdx.x] = row < table_rows && (low == count || sorted[low] != row);
  }
  __syncthreads();
  const Floats<kWidth> zeros = {};
  for (int r = static_cast<int>(threadIdx.x) / 32; r < kRows; r += kThreads / 32) {
    if (!is_absent[r]) continue;
    for (int64_t column = threadIdx.x % 32 * kWidth; column < width; column += 32 * kWidth)
      store_floats(table + (first + r) * width + column, zeros);
  }
}

template <int kWidth, typename T>
void sum_level(const Ordered& from, const T* values, int64_t width, int64_t table_rows, float* table,
               const Partials& partials, cudaStream_t stream) {
  const int64_t chunks = (width + 32 * kWidth - 1) / (32 * kWidth);
  launch(sum_tiles_kernel<T, kWidth>, blocks_for(tiles_of(from.count) * chunks, kThreads / 32), kThreads, 0, stream,
         from, values, width, table_rows, chunks, table, partials);
}

// Bytes of a level's partial sums, and of all levels'.
int64_t aligned(int64_t bytes) { return (bytes + 15) / 16 * 16; }
int64_t partials_workspace(int64_t tiles, int64_t width) {
  return 2 * aligned(2 * tiles * 4) + aligned(2 * tiles * width * 4);
}

template <bool kIsPacked, typename T>
void sum_by_row(Ordered from, const T* dy, int64_t width, int64_t table_rows, float* table, unsigned char* at,
                cudaStream_t stream) {
  constexpr int kFirst = kIsPacked ? kPackSize<T> : 1, kLater = kIsPacked ? kPackSize<float> : 1;
  launch(zero_absent_kernel<kLater>, blocks_for(table_rows, 64), kThreads, 0, stream, from.rows, from.count,
         table_rows, width, table);
  const float* values = nullptr;  // of the level before
  for (int level = 0;; ++level) {
    const int64_t tiles = tiles_of(from.count);
    Partials partials = {};
    if (tiles > 1) {
      partials.rows = reinterpret_cast<uint32_t*>(at);
      partials.places = reinterpret_cast<uint32_t*>(at + aligned(2 * tiles * 4));
      partials.values = reinterpret_cast<float*>(at + 2 * aligned(2 * tiles * 4));
      at += partials_workspace(tiles, width);
    }
    if (level == 0)
      sum_level<kFirst>(from, dy, width, table_rows, table, partials, stream);
    else
      sum_level<kLater>(from, values, width, table_rows, table, partials, stream);
    if (tiles == 1) return;
    from = {partials.rows, partials.places, 2 * tiles};
    values = partials.values;
  }
}

}  // namespace

int64_t embedding_grad_workspace(int64_t rows, int64_t count, int64_t width) {
  int64_t bytes = aligned(sort_ids_workspace(rows, count));
  for (int64_t tiles = tiles_of(count); tiles > 1; tiles = tiles_of(2 * tiles)) bytes += partials_workspace(tiles, width);
  return bytes;
}

template <typename T, typename Id>
void embedding_grad(const TableRows<Id>& ids, const T* dy, int64_t width, float* dtable, void* workspace,
                    cudaStream_t stream) {
  if (ids.rows == 0 || width == 0) return;
  if (ids.count == 0) {
    check(cudaMemsetAsync(dtable, 0, static_cast<size_t>(ids.rows * width) * sizeof(float), stream), "memset");
    return;
  }
  const SortedIds sorted = sort_ids(ids, workspace, stream);
  const Ordered from{sorted.rows, sorted.places, ids.count};
  auto* rest = static_cast<unsigned char*>(workspace) + aligned(sort_ids_workspace(ids.rows, ids.count));
  if (width % kPackSize<T> == 0 && are_aligned(16, dy, dtable, rest))
    sum_by_row<true>(from, dy, width, ids.rows, dtable, rest, stream);
  else
    sum_by_row<false>(from, dy, width, ids.rows, dtable, rest, stream);
}

#define TESSERA_EMBEDDING_GRAD(T, Id) \
  template void embedding_grad<T, Id>(const TableRows<Id>&, const T*, int64_t, float*, void*, cudaStream_t);
TESSERA_EMBEDDING_GRAD(float, int32_t)
TESSERA_EMBEDDING_GRAD(float, int64_t)
TESSERA_EMBEDDING_GRAD(bf16, int32_t)
TESSERA_EMBEDDING_GRAD(bf16, int64_t)
#undef TESSERA_EMBEDDING_GRAD

}  // namespace tessera::cuda
