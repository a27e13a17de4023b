// Elements at positions that are data: gather and scatter, with StableHLO's full set of dims.
//
// Indices address whole windows of the operand. gather clamps a start so that its window lies
// inside; scatter drops every element that falls outside (both as in the StableHLO specification).
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// Names as in StableHLO; for scatter offset_dims are the update_window_dims, and so on.
struct GatherDims {
  Ints offset_dims;              // dims of the result that step through the window
  Ints collapsed_slice_dims;     // operand dims of window size 1 that the result lacks
  Ints start_index_map;          // operand dim of each component of an index vector
  int64_t index_vector_dim = 0;  // dim of the indices that holds the vector; their rank: scalars
  Ints operand_batching_dims = {};
  Ints start_indices_batching_dims = {};
};

// gather{...}(operand, start_indices)
extern const OpDef kGather;
Value gather(Builder& b, Value operand, Value indices, const GatherDims& dims, Ints slice_sizes);
// Rows of x along dim 0 (or another): the result has the dims of `indices` in place of `dimension`.
Value take(Builder& b, Value x, Value indices, int64_t dimension = 0);

// scatter{..., reduce_kind or combiner}(inputs..., scatter_indices, updates...): each element of an
// update is combined into the input at its position. A combiner takes (inputs..., updates...). One
// that returns the updates replaces; of several for one position the last in row-major order stays.
extern const OpDef kScatter;
// Whether a scatter with these attributes has a combiner that returns its second half.
bool is_replacement(const Attributes& scatter);
Value scatter(Builder& b, Value input, Value indices, Value updates, const GatherDims& dims,
              ReduceKind kind = ReduceKind::sum);

}  // namespace tessera::ops
