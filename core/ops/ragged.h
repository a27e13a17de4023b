// Products of rows that lie in groups, each group with a matrix of its own: what experts compute.
//
//     group_sizes [3, 0, 2]:   rows 0 1 2 | | 3 4 | 5     rows 0..2 meet rhs[0], rows 3 and 4 rhs[2],
//                                                          row 5 is in no group
//
// The meaning is that of jax.lax.ragged_dot (chlo.ragged_dot): groups follow each other from row 0, sizes may
// be 0, and rows behind the last group give zeros and get zeros. Sizes are data, so they are judged where
// they are read: `eval` refuses negative sizes and a sum above the number of rows (UserError); kernels count
// a negative size as 0 and ignore what lies beyond the last row, since a device cannot stop a step.
#pragma once

#include <optional>

#include "core/ir/builder.h"

namespace tessera::ops {

// Which dim of rhs [g, ., .] is summed over: [1] with rhs [g, k, n], [2] with rhs [g, n, k].
enum class RaggedRhs : int64_t { by_rows = 1, by_columns = 2 };

// ragged_dot{rhs_contracting, dtype?}(lhs [m, k], rhs [g, k, n] or [g, n, k], group_sizes s32[g])
//   -> [m, n]: row i of group j is lhs[i] times rhs[j]
// Sums are never rounded in between; the result has `dtype`, or the operands'. n is free and k is a sum. Groups
// are a sum too: a device with some of the matrices, from the group that a start operand names, computes the
// rows of these and gives zeros for all others. Rows are positions among all rows, m must be whole, as must
// all sizes.
extern const OpDef kRaggedDot;
Value ragged_dot(Builder& b, Value lhs, Value rhs, Value group_sizes,
                 RaggedRhs contracted = RaggedRhs::by_rows,
                 std::optional<DType> dtype = std::nullopt);

// ragged_contraction{dtype?, group_count?}(lhs [m, k], rhs [m, n], group_sizes s32[g]) -> [g, k, n]: the sum
// over the rows i of group j of lhs[i] (as a column) times rhs[i]; zeros for an empty group. The gradient of
// the matrices of ragged_dot, and the mode "ragged contracting" of jax.lax.ragged_dot_general. k, n and the
// groups of the result are free; with a start operand it has group_count groups from there.
extern const OpDef kRaggedContraction;
Value ragged_contraction(Builder& b, Value lhs, Value rhs, Value group_sizes,
                         std::optional<DType> dtype = std::nullopt);

// Either op as products of matrices, for kernels and costs: result [m, n] = lhs [m, k] rhs, or
// result [g, k, n] = lhs [m, k] transposed, times rhs [m, n]. Group 0 is that of the start operand behind the three
// others, if there is one; sizes are those of all groups.
struct RaggedSizes {
  int64_t m = 0, k = 0, n = 0, groups = 0;  // groups: of rhs or the result, on this device
  bool is_contraction = false;
  bool rhs_by_columns = false;  // rhs is [g, n, k]
};
RaggedSizes ragged_sizes(const OpDef& op, const OpCall& call);

}  // namespace tessera::ops
