// A row that its team of threads holds in registers, as it is stored, so that memory is read once however many
// passes go over the row. Rows too long for that are read again in each pass.
#pragma once

#include "kernels/cuda/device/row_team.h"
#include "kernels/cuda/device/vector.h"

namespace tessera::cuda {

// How a team of `threads` goes over a row of `columns`: in packs of kWidth elements, kPacks a thread; kPacks 0:
// as many as it takes. Rows are aligned to a pack and columns a multiple of kWidth.
template <int kWidth, int kPacks>
struct RowWalk {
  int columns, thread, threads;

  // body(i, column): pack i of this thread, which begins at `column`. i is a constant where kPacks is.
  template <typename Body>
  __device__ __forceinline__ void for_each(Body&& body) const {
    if constexpr (kPacks > 0) {
#pragma unroll
      for (int i = 0; i < kPacks; ++i) {
        const int column = (i * threads + thread) * kWidth;
        if (column < columns) body(i, column);
      }
    } else {
      for (int column = thread * kWidth; column < columns; column += threads * kWidth) body(0, column);
    }
  }
};

template <typename T, int kWidth, int kPacks>
class HeldRow {
 public:
  __device__ __forceinline__ void load_from(const T* row, const RowWalk<kWidth, kPacks>& walk) {
    row_ = row;
    if constexpr (kPacks > 0)
      walk.for_each([&](int i, int column) { packs_[i] = load<kWidth>(row + column); });
  }
  // The sum of two rows, rounded to T. Where it is not held it must be stored at once, and read there.
  __device__ __forceinline__ void load_sum(const T* a, const T* b, T* sum, const RowWalk<kWidth, kPacks>& walk) {
    row_ = sum;
    auto add = [](const Pack<T, kWidth>& x, const Pack<T, kWidth>& y) {
      Floats<kWidth> total = to_floats<T, kWidth>(x);
      const Floats<kWidth> added = to_floats<T, kWidth>(y);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) total[k] += added[k];
      return to_pack<T>(total);
    };
    if constexpr (kPacks > 0) {
      walk.for_each([&](int i, int column) { packs_[i] = add(load<kWidth>(a + column), load<kWidth>(b + column)); });
    } else {
      walk.for_each([&](int, int column) {
        store_global(sum + column, add(load<kWidth>(a + column), load<kWidth>(b + column)));
      });
    }
  }
  // What is held of pack i, to `to`; nothing where nothing is.
  __device__ __forceinline__ void store_held(T* to, int i, int column) const {
    if constexpr (kPacks > 0) store_global(to + column, packs_[i]);
  }
  // The elements of pack i, at `column`.
  __device__ __forceinline__ Floats<kWidth> values(int i, int column) const {
    if constexpr (kPacks > 0) return to_floats<T, kWidth>(packs_[i]);
    return load_floats<kWidth>(row_ + column);
  }

 private:
  const T* row_ = nullptr;
  Pack<T, kWidth> packs_[kPacks > 0 ? kPacks : 1];
};

}  // namespace tessera::cuda
