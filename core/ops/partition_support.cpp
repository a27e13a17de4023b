#include "core/ops/partition_support.h"

#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/support.h"

namespace tessera::ops {

namespace {

Value emit_local(Builder& b, const OpDef& op, Value x, Shape shape, Attributes attributes) {
  attributes.set(Attr::shape, ints_of(shape));
  return b.emit(op, {x}, std::move(attributes));
}

}  // namespace

Value local_all_gather(Builder& b, Value x, int64_t dimension, const AxisList& axes) {
  if (axes.empty()) return x;
  Shape shape = b.shape(x);
  shape[static_cast<int>(dimension)] *= size_of(axes);
  return emit_local(b, kAllGather, x, shape, {{Attr::dimension, dimension}, {Attr::axes, axes}});
}

Value local_all_reduce(Builder& b, Value x, const AxisList& axes, ReduceKind kind) {
  if (axes.empty()) return x;
  return emit_local(b, kAllReduce, x, b.shape(x), {{Attr::axes, axes}, {Attr::reduce_kind, kind}});
}

Value local_all_slice(Builder& b, Value x, int64_t dimension, const AxisList& axes) {
  if (axes.empty()) return x;
  Shape shape = b.shape(x);
  shape[static_cast<int>(dimension)] /= size_of(axes);
  return emit_local(b, kAllSlice, x, shape, {{Attr::dimension, dimension}, {Attr::axes, axes}});
}

Value local_start(Builder& b, const CutDim& cut) {
  return AffineStart{cut.shard, 0}.value(b, cut.axes);
}

Value as_s64(Builder& b, Value index) {
  if (b.dtype(index) == DType::u64) {
    // 2^62 fits a double exactly, and no index is as large.
    index = minimum(b, index, constant_like(b, index, 4611686018427387904.0));
  }
  return convert(b, index, DType::s64);
}

Value clamped_index(Builder& b, Value index, int64_t low, int64_t high) {
  index = as_s64(b, index);
  return minimum(b, maximum(b, index, constant_like(b, index, static_cast<double>(low))),
                 constant_like(b, index, static_cast<double>(high)));
}

Value position_mask(Builder& b, const Shape& shape, int dim, Value low, Value high) {
  const Shape line{shape[dim]};
  const Value position = iota(b, {DType::s64, line}, 0);
  const Value is_in =
      logical_and(b, compare(b, position, broadcast_scalar(b, low, line), CompareDirection::ge),
                  compare(b, position, broadcast_scalar(b, high, line), CompareDirection::lt));
  return broadcast_in_dim(b, is_in, shape, {dim});
}

Value shifted_window(Builder& b, Value x, int dim, Value delta, int64_t size, Value fill) {
  const int64_t own = b.shape(x)[dim];
  Ints edge(static_cast<size_t>(b.shape(x).rank()), 0);
  edge[static_cast<size_t>(dim)] = size;
  const Value wide = pad(b, x, fill, edge, edge);
  const Value start = add(b, clamped_index(b, delta, -size, own), scalar_s64(b, size));
  return dynamic_slice_dim(b, wide, dim, start, size);
}

}  // namespace tessera::ops
