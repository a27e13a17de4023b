#include "kernels/cpu/strided_copy.h"

#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "kernels/common/transpose.h"
#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

struct Dim {
  int64_t size, from, to;  // strides in elements
};

// Without dims of size 1, and with neighbours that step as one dim merged.
std::vector<Dim> merged_dims(std::span<const int64_t> dims, std::span<const int64_t> strides) {
  std::vector<Dim> merged;  // innermost first while it is built
  int64_t dense = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    if (dims[d] != 1) {
      if (!merged.empty() && strides[d] == merged.back().from * merged.back().size) {
        merged.back().size *= dims[d];
      } else {
        merged.push_back({dims[d], strides[d], dense});
      }
    }
    dense *= dims[d];
  }
  if (merged.empty()) merged.push_back({1, 1, 1});
  return {merged.rbegin(), merged.rend()};
}

// Where task number `index` over `outer` dims starts in both memories.
struct Place {
  int64_t from = 0, to = 0;
};
Place place_of(int64_t index, std::span<const Dim> outer) {
  Place place;
  for (size_t d = outer.size(); d-- > 0;) {
    const int64_t at = index % outer[d].size;
    index /= outer[d].size;
    place.from += at * outer[d].from;
    place.to += at * outer[d].to;
  }
  return place;
}

int64_t product_of(std::span<const Dim> dims) {
  int64_t product = 1;
  for (const Dim& dim : dims) product *= dim.size;
  return product;
}

template <typename T>
void copy_row(const Dim& inner, const T* from, T* to) {
  if (inner.from == 1) {
    std::memcpy(to, from, static_cast<size_t>(inner.size) * sizeof(T));
  } else if (inner.from == 0) {
    std::fill_n(to, inner.size, *from);
  } else {
    for (int64_t i = 0; i < inner.size; ++i) to[i] = from[i * inner.from];
  }
}

template <typename T>
void copy_rows(std::span<const Dim> dims, const T* from, T* to) {
  const Dim inner = dims.back();
  const auto outer = dims.first(dims.size() - 1);
  if (outer.empty() && inner.from == 1) {  // one run: cut it, so that threads share it
    return parallel_ranges(inner.size, 65536, [&](int64_t begin, int64_t end) {
      std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin) * sizeof(T));
    });
  }
  const int64_t grain = std::max<int64_t>(1, 16384 / inner.size);
  parallel_ranges(product_of(outer), grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const Place place = place_of(row, outer);
      copy_row(inner, from + place.from, to + place.to);
    }
  });
}

// A block [rows, columns] whose rows are consecutive in `to` and columns in `from`.
template <typename T>
void transpose_block(int64_t rows, int64_t columns, const T* from, int64_t from_step, T* to,
                     int64_t to_step) {
  int64_t whole_rows = 0, whole_columns = 0;
  if constexpr (sizeof(T) >= 4) {
    using Acc = std::conditional_t<sizeof(T) == 4, float, double>;
    using V = simd::Vec<Acc>;
    constexpr int64_t kL = simd::kLanes<Acc>;
    whole_rows = rows / kL * kL;
    whole_columns = columns / kL * kL;
    for (int64_t i = 0; i < whole_rows; i += kL) {
      for (int64_t j = 0; j < whole_columns; j += kL) {
        V square[kL];
        for (int64_t c = 0; c < kL; ++c) {
          square[c] = simd::load_as<V>(from + (j + c) * from_step + i);
        }
        simd::transpose_square(square);
        for (int64_t r = 0; r < kL; ++r) {
          __builtin_memcpy(to + (i + r) * to_step + j, &square[r], sizeof(V));
        }
      }
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      to[i * to_step + j] = from[j * from_step + i];
    }
  }
}

// The innermost dim of `to` strides in `from`, and dim `fast` is consecutive there.
template <typename T>
void copy_transposed(std::vector<Dim> dims, size_t fast, const T* from, T* to) {
  constexpr int64_t kBlock = 64;
  const Dim rows = dims[fast], columns = dims.back();
  dims.pop_back();
  dims.erase(dims.begin() + static_cast<int64_t>(fast));
  const Chunks down{rows.size, kBlock}, across{columns.size, 8 * kBlock};
  const int64_t per_place = down.count() * across.count();
  parallel_for(product_of(dims) * per_place, [&](int64_t task) {
    const Place place = place_of(task / per_place, dims);
    const int64_t i = task % per_place / across.count(), wide = task % across.count();
    const int64_t row = down.begin(i), count = down.end(i) - row;
    for (int64_t j = across.begin(wide); j < across.end(wide); j += kBlock) {
      transpose_block(count, std::min(kBlock, across.end(wide) - j),
                      from + place.from + row + j * columns.from, columns.from,
                      to + place.to + row * rows.to + j, rows.to);
    }
  });
}

template <typename T>
void copy_elements(std::span<const int64_t> dims, std::span<const int64_t> strides,
                   const void* from, void* to) {
  const std::vector<Dim> merged = merged_dims(dims, strides);
  const T* source = static_cast<const T*>(from);
  T* target = static_cast<T*>(to);
  if (merged.back().from != 0 && merged.back().from != 1) {
    for (size_t d = 0; d + 1 < merged.size(); ++d) {
      if (merged[d].from == 1) return copy_transposed(merged, d, source, target);
    }
  }
  copy_rows<T>(merged, source, target);
}

}  // namespace

void strided_copy(int64_t element_bytes, std::span<const int64_t> dims,
                  std::span<const int64_t> strides, const void* from, void* to) {
  TESSERA_CHECK(dims.size() == strides.size());
  for (int64_t size : dims) {
    if (size == 0) return;
  }
  switch (element_bytes) {
    case 1:
      return copy_elements<uint8_t>(dims, strides, from, to);
    case 2:
      return copy_elements<uint16_t>(dims, strides, from, to);
    case 4:
      return copy_elements<uint32_t>(dims, strides, from, to);
    case 8:
      return copy_elements<uint64_t>(dims, strides, from, to);
    default:
      TESSERA_CHECK(false, "no copy of elements of ", element_bytes, " bytes");
  }
}

}  // namespace tessera::cpu
