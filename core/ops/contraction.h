// Products that sum over shared dims.
#pragma once

#include <optional>

#include "core/ir/builder.h"

namespace tessera::ops {

struct DotDims {
  Ints lhs_contracting;
  Ints rhs_contracting;
  Ints lhs_batch = {};
  Ints rhs_batch = {};
};

// dot_general{lhs_contracting, rhs_contracting, lhs_batch, rhs_batch, dtype?}(lhs, rhs)
//   -> [batch..., lhs free..., rhs free...]
// Operands have one dtype; the result has `dtype`, or theirs. Sums are never rounded in between, so
// `dtype` f32 on bf16 operands gives the accumulator itself.
extern const OpDef kDotGeneral;
Value dot_general(Builder& b, Value lhs, Value rhs, const DotDims& dims,
                  std::optional<DType> dtype = std::nullopt);

// The last dim of x times the first of w: [..., k], [k, n...] -> [..., n...].
Value matmul(Builder& b, Value x, Value w, std::optional<DType> dtype = std::nullopt);

// What a dot_general is as a batch of matrix products, for kernels and costs.
struct DotSizes {
  int64_t batch = 1, rows = 1, columns = 1, depth = 1;
};
DotSizes dot_sizes(const OpCall& call);

}  // namespace tessera::ops
