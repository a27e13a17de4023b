// Bound by memory: the updates read, the elements that they meet read and written: 3 x bytes of the updates /
// bandwidth (2 x where they replace), and the indices; windows that may be the same are sorted first
// (sort_keys.cu), which at 16 and more elements a window costs less than moving them.
//
// The order is fixed without atomics: windows are sorted by where they start and, among those that start at the
// same place, by their number; the thread that has an element of the first of them goes through all of them.
#include "kernels/cuda/indexing/scatter.h"

#include <bit>

#include "core/base/error.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/indexing/sort_keys.h"
#include "kernels/cuda/movement/starts.h"
#include "kernels/cuda/reduction/combine.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;
constexpr uint64_t kDropped = ~uint64_t{0};

// How an update meets what is there: kinds as in ReduceKind, or the later one.
constexpr int kReplace = -1;
int way_of(std::optional<ReduceKind> kind) { return kind ? static_cast<int>(*kind) : kReplace; }

// Which way is known at run time, the same for all threads: a branch beside the divisions of an index costs nothing,
// kernels for each way cost five times the compiling.
template <typename T>
__device__ __forceinline__ Accumulator<T> meet(int way, Accumulator<T> a, Accumulator<T> b) {
  using A = Accumulator<T>;
  if constexpr (std::is_same_v<T, uint8_t>) {
    if (way == static_cast<int>(ReduceKind::logical_and)) return Combine<ReduceKind::logical_and, A>{}(a, b);
    if (way == static_cast<int>(ReduceKind::logical_or)) return Combine<ReduceKind::logical_or, A>{}(a, b);
  } else if constexpr (!std::is_unsigned_v<T>) {
    switch (way) {
      case static_cast<int>(ReduceKind::sum): return Combine<ReduceKind::sum, A>{}(a, b);
      case static_cast<int>(ReduceKind::product): return Combine<ReduceKind::product, A>{}(a, b);
      case static_cast<int>(ReduceKind::max): return Combine<ReduceKind::max, A>{}(a, b);
      case static_cast<int>(ReduceKind::min): return Combine<ReduceKind::min, A>{}(a, b);
      default: break;
    }
  }
  return b;
}

template <typename T>
void check_way(std::optional<ReduceKind> kind) {
  if (!kind) return;
  const bool is_logical = *kind == ReduceKind::logical_and || *kind == ReduceKind::logical_or;
  const bool has_it = std::is_same_v<T, uint8_t> ? is_logical : !std::is_unsigned_v<T> && !is_logical;
  TESSERA_CHECK(has_it, "no scatter by kind ", static_cast<int>(*kind));
}

// Where a window's first element, index vector and updates are.
struct WindowPlace {
  int64_t operand = 0, index = 0, update = 0;
};
__device__ __forceinline__ WindowPlace place_of(const ScatterShape& s, int64_t window) {
  WindowPlace place;
  for (int d = s.batch_rank - 1; d >= 0; --d) {
    const int64_t above = d == 0 ? 0 : window / s.batch[d].size, at = window - above * s.batch[d].size;
    place.operand += at * s.batch[d].operand;
    place.index += at * s.batch[d].index;
    place.update += at * s.batch[d].update;
    window = above;
  }
  return place;
}

__device__ __forceinline__ int64_t component_of(const ScatterShape& s, int64_t index, int k) {
  return load_index(s.vectors.indices, index + k * s.vectors.component_step, s.vectors.bytes, s.vectors.is_signed);
}

// Moves `place` to where the index vector says. False: the whole window is dropped.
__device__ __forceinline__ bool move_window(const ScatterShape& s, WindowPlace& place) {
  bool is_inside = true;
  for (int k = 0; k < s.vectors.components; ++k) {
    const int64_t index = component_of(s, place.index, k);
    if (s.extent[k] >= 0) is_inside = is_inside && index >= 0 && index < s.extent[k];
    if (is_inside) place.operand += index * s.stride[k];
  }
  return is_inside;
}

// Element number `element` of a window, relative to its first. False: it is dropped.
__device__ __forceinline__ bool move_element(const ScatterShape& s, int64_t element, WindowPlace& place) {
  bool is_inside = true;
  for (int d = s.window_rank - 1; d >= 0; --d) {
    const ScatterShape::WindowDim& dim = s.window[d];
    const int64_t above = d == 0 ? 0 : element / dim.size, at = element - above * dim.size;
    if (dim.component >= 0) {
      const int64_t moved = component_of(s, place.index, dim.component) + at;
      is_inside = is_inside && moved >= 0 && moved < dim.extent;
    }
    place.operand += at * dim.operand;
    place.update += at * dim.update;
    element = above;
  }
  return is_inside;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    scatter_unique_kernel(ScatterShape s, int way, int64_t begin, int64_t end, const T* updates, T* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t window = begin + i / s.elements;
  if (window >= end) return;
  WindowPlace place = place_of(s, window);
  if (!move_window(s, place) || !move_element(s, i % s.elements, place)) return;
  to[place.operand] =
      rounded_to<T>(meet<T>(way, accumulator_of(to[place.operand]), accumulator_of(updates[place.update])));
}

// A window as its start and its number, which has `shift` bits; all that are dropped come last.
__global__ void __launch_bounds__(kThreads) keys_kernel(ScatterShape s, int shift, int64_t count, uint64_t* keys) {
  const int64_t window = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (window >= count) return;
  uint64_t key = kDropped;
  if (window < s.windows) {
    WindowPlace place = place_of(s, window);
    if (move_window(s, place)) key = static_cast<uint64_t>(place.operand) << shift | static_cast<uint64_t>(window);
  }
  keys[window] = key;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    scatter_sorted_kernel(ScatterShape s, int way, int shift, const uint64_t* keys, const T* updates, T* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, position = i / s.elements;
  if (position >= s.windows) return;
  uint64_t key = keys[position];
  const uint64_t start = key >> shift;
  if (key == kDropped || (position > 0 && keys[position - 1] >> shift == start)) return;
  WindowPlace element;
  move_element(s, i % s.elements, element);
  T* const target = to + static_cast<int64_t>(start) + element.operand;
  auto value = accumulator_of(*target);
  const uint64_t numbers = (uint64_t{1} << shift) - 1;
  for (int64_t p = position;;) {
    const int64_t update = place_of(s, static_cast<int64_t>(key & numbers)).update + element.update;
    value = meet<T>(way, value, accumulator_of(updates[update]));
    if (++p >= s.windows) break;
    key = keys[p];
    if (key == kDropped || key >> shift != start) break;
  }
  *target = rounded_to<T>(value);
}

dim3 grid_of(int64_t threads) {
  TESSERA_CHECK(threads / kThreads < (int64_t{1} << 31) - 1, "a scatter of ", threads, " elements");
  return dim3(blocks_for(threads, kThreads));
}

}  // namespace

template <typename T>
void scatter_unique(std::optional<ReduceKind> kind, const ScatterShape& shape, int64_t begin, int64_t end,
                    const T* updates, T* to, cudaStream_t stream) {
  if (begin >= end || shape.elements == 0) return;
  check_way<T>(kind);
  launch(scatter_unique_kernel<T>, grid_of((end - begin) * shape.elements), dim3(kThreads), 0, stream, shape,
         way_of(kind), begin, end, updates, to);
}

int64_t scatter_keys(int64_t windows) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(windows < 1 ? 1 : windows)));
}

template <typename T>
void scatter_sorted(std::optional<ReduceKind> kind, const ScatterShape& shape, const T* updates, T* to,
                    uint64_t* keys, cudaStream_t stream) {
  if (shape.windows == 0 || shape.elements == 0) return;
  TESSERA_CHECK(shape.is_single, "windows that may overlap cannot be sorted");
  check_way<T>(kind);
  const int64_t count = scatter_keys(shape.windows);
  const int shift = std::countr_zero(static_cast<uint64_t>(count));
  launch(keys_kernel, grid_of(count), dim3(kThreads), 0, stream, shape, shift, count, keys);
  sort_keys(keys, count, stream);
  launch(scatter_sorted_kernel<T>, grid_of(shape.windows * shape.elements), dim3(kThreads), 0, stream, shape,
         way_of(kind), shift, static_cast<const uint64_t*>(keys), updates, to);
}

#define TESSERA_SCATTER(T)                                                                                        \
  template void scatter_unique(std::optional<ReduceKind>, const ScatterShape&, int64_t, int64_t, const T*, T*,    \
                               cudaStream_t);                                                                     \
  template void scatter_sorted(std::optional<ReduceKind>, const ScatterShape&, const T*, T*, uint64_t*,           \
                               cudaStream_t)
TESSERA_SCATTER(float);
TESSERA_SCATTER(bf16);
TESSERA_SCATTER(int32_t);
TESSERA_SCATTER(int64_t);
TESSERA_SCATTER(uint8_t);
TESSERA_SCATTER(uint16_t);
TESSERA_SCATTER(uint32_t);
TESSERA_SCATTER(uint64_t);
#undef TESSERA_SCATTER

}  // namespace tessera::cuda
