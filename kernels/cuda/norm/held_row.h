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
