#include "core/runtime/block_copy.h"

#include <array>
#include <cstring>

#include "core/base/error.h"

namespace tessera {
namespace {

constexpr int kMaxRank = 16;

// One level of the copy: `count` steps of these strides, in bytes.
struct Level {
  int64_t count;
  int64_t to_stride;
  int64_t from_stride;
};

template <int64_t kBytes>
void copy_row_of(std::byte* to, int64_t to_stride, const std::byte* from, int64_t from_stride,
                 int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * to_stride, from + i * from_stride, static_cast<size_t>(kBytes));
}

// Small runs (a transposing all_to_all) would drown in calls of memcpy with a run-time length.
void copy_row(std::byte* to, int64_t to_stride, const std::byte* from, int64_t from_stride,
              int64_t count, int64_t bytes) {
  switch (bytes) {
    case 1:
      return copy_row_of<1>(to, to_stride, from, from_stride, count);
    case 2:
      return copy_row_of<2>(to, to_stride, from, from_stride, count);
    case 4:
      return copy_row_of<4>(to, to_stride, from, from_stride, count);
    case 8:
      return copy_row_of<8>(to, to_stride, from, from_stride, count);
    case 16:
      return copy_row_of<16>(to, to_stride, from, from_stride, count);
    case 32:
      return copy_row_of<32>(to, to_stride, from, from_stride, count);
    default:
      break;
  }
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * to_stride, from + i * from_stride, static_cast<size_t>(bytes));
}

void copy_levels(std::byte* to, const std::byte* from, const Level* levels, int depth,
                 int64_t run_bytes) {
  if (depth == 0) {
    std::memcpy(to, from, static_cast<size_t>(run_bytes));
    return;
  }
  if (depth == 1) {
    copy_row(to, levels->to_stride, from, levels->from_stride, levels->count, run_bytes);
    return;
  }
  for (int64_t i = 0; i < levels->count; ++i)
    copy_levels(to + i * levels->to_stride, from + i * levels->from_stride, levels + 1, depth - 1,
                run_bytes);
}

}  // namespace

void copy_block(std::byte* to, const Shape& to_shape, std::span<const int64_t> to_start,
                const std::byte* from, const Shape& from_shape, std::span<const int64_t> from_start,
                const Shape& block, int64_t element_bytes) {
  const int rank = block.rank();
  TESSERA_CHECK(rank <= kMaxRank && to_shape.rank() == rank && from_shape.rank() == rank, "block ",
                block, " of ", from_shape, " to ", to_shape);
  if (block.elements() == 0) return;
  // From the innermost dim outwards: strides, the offsets of the starts, and the collapsed levels.
  std::array<Level, kMaxRank> levels;
  int first = kMaxRank;  // levels[first ..] are in use
  int64_t run = element_bytes, to_stride = element_bytes, from_stride = element_bytes;
  for (int dim = rank - 1; dim >= 0; --dim) {
    to += to_start[static_cast<size_t>(dim)] * to_stride;
    from += from_start[static_cast<size_t>(dim)] * from_stride;
    if (block[dim] != 1) {
      if (first == kMaxRank && run == to_stride && run == from_stride) {
        run *= block[dim];
      } else if (first < kMaxRank && to_stride == levels[first].to_stride * levels[first].count &&
                 from_stride == levels[first].from_stride * levels[first].count) {
        levels[first].count *= block[dim];
      } else {
        levels[--first] = {block[dim], to_stride, from_stride};
      }
    }
    to_stride *= to_shape[dim];
    from_stride *= from_shape[dim];
  }
  if (to == from) return;
  copy_levels(to, from, levels.data() + first, kMaxRank - first, run);
}

void copy_dim_block(std::byte* to, const Shape& to_shape, int64_t to_start, const std::byte* from,
                    const Shape& from_shape, int64_t from_start, int dim, int64_t extent,
                    int64_t element_bytes) {
  int64_t inner = element_bytes, outer = 1;
  for (int d = dim + 1; d < from_shape.rank(); ++d) inner *= from_shape[d];
  for (int d = 0; d < dim; ++d) outer *= from_shape[d];
  to += to_start * inner;
  from += from_start * inner;
  if (to == from || outer * inner * extent == 0) return;
  const Level level{outer, to_shape[dim] * inner, from_shape[dim] * inner};
  copy_levels(to, from, &level, 1, extent * inner);
}

}  // namespace tessera
