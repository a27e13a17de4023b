// Kernels over many tensors: a table of them is the kernel's parameter, and every block finds its tensor there.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

namespace tessera::cuda {

constexpr size_t kMaxParameterBytes = 32764;  // CUDA 12.1 and later, compute capability 7.0 and later

template <typename Entry, int kCapacity>
struct Table {
  int count = 0;
  unsigned first_block[kCapacity] = {};  // of each entry; they have at least one
  Entry entries[kCapacity];
};

// Which entry this block works for, and which of its blocks it is.
struct TablePlace {
  int entry;
  int64_t block;
};
template <typename Entry, int kCapacity>
__device__ __forceinline__ TablePlace find_block(const Table<Entry, kCapacity>& table) {
  int low = 0, high = table.count;  // the entry is in [low, high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (table.first_block[middle] <= blockIdx.x)
      low = middle;
    else
      high = middle;
  }
  return {low, static_cast<int64_t>(blockIdx.x - table.first_block[low])};
}

// Calls run(table, blocks) for tables of as many items as fit; items of no blocks are left out.
template <typename Entry, int kCapacity, typename Item, typename Blocks, typename Make, typename Run>
void for_each_table(std::span<const Item> items, Blocks&& blocks_of, Make&& make, Run&& run) {
  constexpr int64_t kMaxBlocks = (int64_t{1} << 31) - 1;
  Table<Entry, kCapacity> table;
  int64_t blocks = 0;
  const auto flush = [&] {
    if (table.count > 0) run(table, static_cast<unsigned>(blocks));
    table.count = 0;
    blocks = 0;
  };
  for (const Item& item : items) {
    const int64_t own = blocks_of(item);
    if (own == 0) continue;
    if (table.count == kCapacity || blocks + own > kMaxBlocks) flush();
    table.first_block[table.count] = static_cast<unsigned>(blocks);
    table.entries[table.count++] = make(item);
    blocks += own;
  }
  flush();
}

}  // namespace tessera::cuda
