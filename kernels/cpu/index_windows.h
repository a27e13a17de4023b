// Where the windows of gather and scatter lie in the operand.
#pragma once

#include "core/ops/index_map.h"
#include "core/runtime/kernel_table.h"
#include "kernels/cpu/block_copy.h"

namespace tessera::cpu {

// Beyond every tensor, and sums with positions do not overflow.
constexpr int64_t kFarIndex = int64_t{1} << 60;

// Integer number `element` of a tensor, limited to +-kFarIndex.
int64_t index_at(const TensorView& tensor, int64_t element);

// Whether two windows are disjoint or the same: they have one element along every indexed dim.
bool are_single(const ops::IndexMap& map);

// One index vector, and so one window, per position of the batch dims, in row-major order.
class IndexWindows {
 public:
  IndexWindows(const ops::IndexMap& map, const TensorView& indices);

  int64_t count() const { return vectors_.count(); }

  // The element of the operand at which each window starts, moved to where it lies inside.
  void clamped_starts(int64_t* starts) const;
  // The same for single windows; -1 for those outside.
  void starts_or_outside(int64_t* starts) const;

  // Calls body(component's operand dim, position) for the index vector of one window.
  template <typename Body>
  void for_each_index(int64_t window, Body body) const {
    const int64_t at = vectors_.at(window)[0];
    for (size_t k = 0; k < axes_.size(); ++k)
      body(axes_[k].dim, index_at(indices_, at + static_cast<int64_t>(k) * component_step_));
  }
  // What the batching dims add to the start of a window, in elements.
  int64_t batching_start(int64_t window) const { return vectors_.at(window)[1]; }

 private:
  // Of one component of the index vectors.
  struct Axis {
    int dim = 0;       // of the operand
    int64_t last = 0;  // the last start at which the window lies inside
    int64_t stride = 0;
  };
  // starts[w] = start of window w, or what `outside` makes of an index that is not in [0, last].
  template <typename T, bool kClamps>
  void find_starts(int64_t* starts) const;

  const TensorView& indices_;
  std::vector<Axis> axes_;
  int64_t component_step_ = 0;
  Places<2> vectors_;  // in the indices; in the operand, along the batching dims
};

}  // namespace tessera::cpu
