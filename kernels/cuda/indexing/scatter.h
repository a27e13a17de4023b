// Updates combined into an operand at positions that are data, in an order that is the same in every run.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <optional>

#include "core/types/reduce_kind.h"
#include "kernels/cuda/indexing/gather.h"
#include "kernels/cuda/number.h"

namespace tessera::cuda {

// Window w of `windows` has an index vector and `elements` updates.
struct ScatterShape {
  int64_t windows = 0, elements = 1;

  // The windows' positions: steps in the updates, in the indices and in the operand.
  struct BatchDim {
    int64_t size, update, index, operand;
  };
  int batch_rank = 0;
  BatchDim batch[kMaxIndexRank] = {};

  // The positions in a window. Component `component` of the index vector moves the dim (-1: none does), and what
  // it moves out of [0, extent) is dropped.
  struct WindowDim {
    int64_t size, update, operand;
    int component;
    int64_t extent;
  };
  int window_rank = 0;
  WindowDim window[kMaxIndexRank] = {};

  IndexVectors vectors;
  int64_t stride[kMaxIndexRank] = {};  // of component k in the operand
  // Of components that no dim of the window has: outside of [0, extent) the window is dropped. Else -1.
  int64_t extent[kMaxIndexRank] = {};

  bool is_single = true;  // no dim of the window has a component: windows are disjoint or the same
};

// Elements that windows of their own write, or are one window: `begin` and `end` say which.
// kind nullopt: updates replace. T is float, bf16, int32_t, int64_t, uint8_t (pred: logical kinds; or replaced), or
// uint16_t, uint32_t and uint64_t, only replaced.
template <typename T>
void scatter_unique(std::optional<ReduceKind> kind, const ScatterShape& shape, int64_t begin, int64_t end,
                    const T* updates, T* to, cudaStream_t stream);

// Windows that may be the same, which are single, in their order. `keys` has room for scatter_keys(windows);
// operand_elements * that fits in 63 bits.
int64_t scatter_keys(int64_t windows);  // a power of two
template <typename T>
void scatter_sorted(std::optional<ReduceKind> kind, const ScatterShape& shape, const T* updates, T* to,
                    uint64_t* keys, cudaStream_t stream);

}  // namespace tessera::cuda
