// Which tile of which group a number is.
#pragma once

#include "kernels/cuda/ragged/ragged.h"

namespace tessera::cuda {

// A tile of the result: where it and its operands begin, in elements, how many rows and columns of it exist, and
// the extent that is summed over (0: a tile of zeros).
struct RaggedTile {
  int64_t a, b, result, depth;
  int rows, columns;
};

template <int kTile>
__host__ __device__ __forceinline__ int64_t tiles_along(int64_t size) {
  return (size + kTile - 1) / kTile;
}

// Of the whole result; tiles of kTile x kTile elements.
template <int kTile>
__device__ __forceinline__ int64_t ragged_tile_count(const RaggedShape& s, const RaggedGroups& groups) {
  const int64_t rows =
      s.kind == RaggedKind::contraction ? s.groups * tiles_along<kTile>(s.k) : groups.tiles[s.groups + 2];
  return rows * tiles_along<kTile>(s.n);
}

// Tiles below each other have neighbouring numbers: the matrix's columns, of which there is more than of a
// group's rows, are read by blocks that run at the same time.
template <int kTile>
__device__ __forceinline__ RaggedTile ragged_tile(const RaggedShape& s, const RaggedGroups& groups, int64_t index) {
  const int64_t across = tiles_along<kTile>(s.n);
  RaggedTile tile;
  int64_t row, column, first_row, end_row;
  if (s.kind == RaggedKind::contraction) {
    const int64_t down = tiles_along<kTile>(s.k), group = index / (down * across), place = index % (down * across);
    first_row = groups.starts[group + 1];
    tile.depth = groups.starts[group + 2] - first_row;
    row = place % down * kTile;
    column = place / down * kTile;
    end_row = s.k;
    tile.a = first_row * s.k + row;
    tile.b = first_row * s.n + column;
    tile.result = (group * s.k + row) * s.n + column;
  } else {
    const int64_t row_tile = index / across;
    int low = 0, high = s.groups + 2;  // tiles[low] <= row_tile < tiles[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (groups.tiles[middle] <= row_tile)
        low = middle;
      else
        high = middle;
    }
    const int64_t before = groups.tiles[low], down = groups.tiles[low + 1] - before, place = index - before * across;
    row = groups.starts[low] + place % down * kTile;
    column = place / down * kTile;
    end_row = groups.starts[low + 1];
    const int64_t group = low - 1;
    const bool has_matrix = group >= 0 && group < s.groups;
    tile.depth = has_matrix ? s.k : 0;
    tile.a = row * s.k;
    tile.b = (has_matrix ? group * s.k * s.n : 0) + column * (s.kind == RaggedKind::by_rows ? 1 : s.k);
    tile.result = row * s.n + column;
  }
  const int64_t rows = end_row - row, columns = s.n - column;
  tile.rows = static_cast<int>(rows < kTile ? rows : kTile);
  tile.columns = static_cast<int>(columns < kTile ? columns : kTile);
  return tile;
}

// Blocks for the most tiles that there can be, up to `most`: they walk over what there is.
template <int kTile>
inline unsigned ragged_blocks(const RaggedShape& s, int64_t most) {
  const int64_t down =
      s.kind == RaggedKind::contraction ? s.groups * tiles_along<kTile>(s.k) : s.m / kTile + s.groups + 2;
  const int64_t tiles = down * tiles_along<kTile>(s.n);
  return static_cast<unsigned>(tiles < most ? tiles : most);
}

inline int64_t result_elements(const RaggedShape& s) {
  return s.kind == RaggedKind::contraction ? s.groups * s.k * s.n : s.m * s.n;
}

}  // namespace tessera::cuda
