#include "kernels/cpu/index_windows.h"

#include <algorithm>

#include "core/types/dispatch.h"
#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

template <typename T>
int64_t limited(T value) {
  if constexpr (std::is_same_v<T, uint64_t>)
    return static_cast<int64_t>(std::min<uint64_t>(value, static_cast<uint64_t>(kFarIndex)));
  else
    return std::clamp<int64_t>(static_cast<int64_t>(value), -kFarIndex, kFarIndex);
}

// Calls body<T>() with the integer type of `dtype`.
template <typename Body>
void dispatch_integer(DType dtype, Body body) {
  dispatch_dtype(dtype, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>)
      body.template operator()<T>();
    else
      TESSERA_CHECK(false, "indices of ", dtype);
  });
}

}  // namespace

int64_t index_at(const TensorView& tensor, int64_t element) {
  int64_t index = 0;
  dispatch_integer(tensor.type.dtype,
                   [&]<typename T>() { index = limited(tensor.as<const T>()[element]); });
  return index;
}

IndexWindows::IndexWindows(const ops::IndexMap& map, const TensorView& indices)
    : indices_(indices), axes_(static_cast<size_t>(map.components())) {
  const std::vector<int64_t> own = map.indices.strides(), strides = map.operand.strides();
  if (map.vector_dim < map.indices.rank())
    component_step_ = own[static_cast<size_t>(map.vector_dim)];
  std::array<std::vector<int64_t>, 2> steps;
  for (int d : map.indices_batch_dims) steps[0].push_back(own[static_cast<size_t>(d)]);
  steps[1].assign(steps[0].size(), 0);
  for (size_t d = 0; d < map.dims.size(); ++d) {
    const ops::IndexMap::Dim& dim = map.dims[d];
    if (dim.batching >= 0) steps[1][static_cast<size_t>(dim.batching)] = strides[d];
    if (dim.component >= 0)
      axes_[static_cast<size_t>(dim.component)] = {
          static_cast<int>(d), map.operand[static_cast<int>(d)] - dim.size, strides[d]};
  }
  vectors_ = Places<2>(map.batch_shape(), steps);
}

bool are_single(const ops::IndexMap& map) {
  return std::all_of(map.dims.begin(), map.dims.end(), [](const ops::IndexMap::Dim& dim) {
    return dim.component < 0 || dim.size == 1;
  });
}

template <typename T, bool kClamps>
void IndexWindows::find_starts(int64_t* starts) const {
  const T* indices = indices_.as<const T>();
  parallel_ranges(count(), 8192, [&](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      const auto [at, batching] = vectors_.at(w);
      int64_t start = batching;
      bool is_inside = true;
      for (size_t k = 0; k < axes_.size(); ++k) {
        const int64_t index = limited(indices[at + static_cast<int64_t>(k) * component_step_]);
        const int64_t inside = std::clamp<int64_t>(index, 0, axes_[k].last);
        is_inside = is_inside && inside == index;
        start += inside * axes_[k].stride;
      }
      starts[w] = kClamps || is_inside ? start : -1;
    }
  });
}

void IndexWindows::clamped_starts(int64_t* starts) const {
  dispatch_integer(indices_.type.dtype, [&]<typename T>() { find_starts<T, true>(starts); });
}

void IndexWindows::starts_or_outside(int64_t* starts) const {
  dispatch_integer(indices_.type.dtype, [&]<typename T>() { find_starts<T, false>(starts); });
}

}  // namespace tessera::cpu
