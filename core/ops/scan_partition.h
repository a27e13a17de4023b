// What scans on shards share. Private to core/ops.
#pragma once

#include <functional>

#include "core/ops/halo.h"

namespace tessera::ops {

// The operand's shard of the scanned dim in the extent of the result's.
Value scan_shard(PartitionContext& c, int operand, int dim, CutDim& cut);
// The last row of x along `dim` in the order of the scan.
Value last_row(Builder& b, Value x, int dim, bool is_reverse);
// `x` of the device `places` before in the order of the scan; `identity` where there is none.
Value from_before(Builder& b, Value x, const AxisList& axes, int64_t places, bool is_reverse,
                  double identity);
// One row, repeated along `dim` to `shape`.
Value repeat_row(Builder& b, Value row, const Shape& shape);
// Bytes that a device sends for a prefix over `axes` of `rows` rows.
double prefix_bytes(const TensorType& x, const CutShapes& shapes, const TensorFactors& factors,
                    int dim, int64_t rows);

}  // namespace tessera::ops
