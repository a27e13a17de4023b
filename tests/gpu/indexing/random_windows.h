// Random geometries of gathers and scatters.
#pragma once

#include "core/ops/gather.h"
#include "tests/gpu/op_testing.h"

namespace tessera {

struct RandomWindows {
  Shape operand, indices, window;
  ops::GatherDims dims;
  Ints sizes;  // of a window
};

// `single`: windows have one element along every indexed dim; `leading`: the windows' positions are
// the first dims of the window tensor.
inline RandomWindows pick_windows(bool single, bool leading) {
  RandomWindows w;
  const int64_t rank = pick(1, 4);
  w.operand = pick_shape(rank, 600, false);
  Ints batch = ints_of_shape(pick_shape(pick(0, 2), 30, false));
  const bool has_batching = rank > 1 && pick(0, 3) == 0;  // of dim 0
  if (has_batching) {
    const int64_t at = pick(0, static_cast<int64_t>(batch.size()));
    batch.insert(batch.begin() + at, w.operand[0]);
    w.dims.operand_batching_dims = {0};
    w.dims.start_indices_batching_dims = {at};
  }
  const int64_t first = has_batching ? 1 : 0, components = pick(1, rank - first);
  for (int64_t d : pick_order(rank - first)) w.dims.start_index_map.push_back(first + d);
  w.dims.start_index_map.resize(static_cast<size_t>(components));
  Ints window;
  if (has_batching) w.sizes.push_back(1);
  for (int64_t d = first; d < rank; ++d) {
    const Ints& map = w.dims.start_index_map;
    const bool is_indexed = std::find(map.begin(), map.end(), d) != map.end();
    const int64_t whole = w.operand[static_cast<int>(d)];
    w.sizes.push_back(is_indexed   ? (single ? 1 : pick(1, whole))
                      : pick(0, 2) ? whole
                                   : pick(1, whole));
    if (w.sizes.back() == 1 && pick(0, 1))
      w.dims.collapsed_slice_dims.push_back(d);
    else
      window.push_back(w.sizes.back());
  }
  Ints indices = batch;
  w.dims.index_vector_dim = pick(0, static_cast<int64_t>(batch.size()));
  if (components == 1 && pick(0, 3) == 0) {
    w.dims.index_vector_dim = static_cast<int64_t>(batch.size());  // scalars
  } else {
    indices.insert(indices.begin() + w.dims.index_vector_dim, components);
    for (int64_t& d : w.dims.start_indices_batching_dims) d += d >= w.dims.index_vector_dim;
  }
  w.indices = Shape(indices);
  // The window's dims among those of the positions.
  const size_t all = batch.size() + window.size();
  size_t b = 0, k = 0;
  for (size_t i = 0; i < all; ++i) {
    const bool is_window = b == batch.size() || (k < window.size() && !leading && pick(0, 1));
    if (is_window) w.dims.offset_dims.push_back(static_cast<int64_t>(i));
    w.window.push_back(is_window ? window[k++] : batch[b++]);
  }
  return w;
}

// Some of them outside, of any integer type.
inline HostTensor pick_indices(const Shape& shape, int64_t last) {
  const DType dtype = pick_of<DType>({DType::s8, DType::u8, DType::s16, DType::u16, DType::s32,
                                      DType::u32, DType::s64, DType::u64});
  return pick_tensor(dtype, shape, is_signed_integer(dtype) ? -3 : 0, static_cast<double>(last));
}

}  // namespace tessera
