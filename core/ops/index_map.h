// The geometry that gather and scatter share: which dim of operand, indices and window tensor
// (gather's result, scatter's updates) is which. Private to core/ops and its kernels.
#pragma once

#include "core/ops/gather.h"
#include "core/ops/partition_support.h"
#include "core/ops/support.h"

namespace tessera::ops {

struct IndexMap {
  struct Dim {            // of the operand
    int window_dim = -1;  // of the window tensor; -1: collapsed, inserted or batching
    int component = -1;   // of the index vector; -1: not indexed
    int batching = -1;    // which of the indices' batch dims it is tied to; -1: none
    int64_t size = 1;     // of the window
  };
  Shape operand, indices, window;
  int vector_dim = 0;                   // of the indices; their rank where they are scalars
  std::vector<int> indices_batch_dims;  // dims of the indices other than vector_dim
  std::vector<int> window_batch_dims;   // the dim of the window tensor that each of them is
  std::vector<Dim> dims;

  int64_t components() const { return vector_dim < indices.rank() ? indices[vector_dim] : 1; }
  Shape batch_shape() const;
};

// Both throw UserError with the shapes.
IndexMap gather_map(const OpCall& call);
IndexMap scatter_map(const OpCall& call);
int scatter_inputs(const OpCall& call);  // N of 2 N + 1 operands

// The dims from the attributes of one of the two ops, and the attributes that name them: of gather
// without slice_sizes, of scatter without reduce_kind or combiner.
GatherDims gather_dims(const Attributes& gather);
GatherDims scatter_dims(const Attributes& scatter);
Attributes gather_attributes(const GatherDims& dims);
Attributes scatter_attributes(const GatherDims& dims);

// One index vector per position of the batch dims, row-major; what does not fit is the largest.
std::vector<int64_t> index_vectors(const IndexMap& map, const HostTensor& indices);

// The indices as s64, component by component clamped to [0, extent - window] of the operand.
Value clamped_indices(Builder& b, Value indices, const IndexMap& map);
// s64 constant [components], spread to the shape of the indices.
Value by_component(Builder& b, const std::vector<int64_t>& values, const IndexMap& map,
                   const Shape& indices);
// `windows` (a window tensor) with zeros where `is_own`, pred of the shape of the indices, is false
// for some component of the index vector.
Value only_where(Builder& b, Value windows, Value is_own, const IndexMap& map);
// indices (s64) minus the global start of the own shard, for every indexed dim of operand 0.
Value localized_indices(PartitionContext& c, Value indices, const IndexMap& map);

}  // namespace tessera::ops
