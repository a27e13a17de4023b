#include "core/ops/partition_support.h"

#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/support.h"

namespace tessera::ops {

DimCut operand_cut(const PartitionContext& context, int operand, int dim) {
  auto& c = const_cast<PartitionContext&>(context);  // builder() is not const, shape() only reads
  return {c.operand_sharding(operand).dims[static_cast<size_t>(dim)].axes,
          c.call().operands[static_cast<size_t>(operand)].shape[dim],
          c.builder().shape(c.operand(operand))[dim]};
}

DimCut result_cut(PartitionContext& c, int result, int dim) {
  return {c.result_sharding(result).dims[static_cast<size_t>(dim)].axes,
          c.result_types()[static_cast<size_t>(result)].shape[dim],
          c.local_result_type(result).shape[dim]};
}

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

Value s64_constant(Builder& b, int64_t value) {
  return constant(b, static_cast<double>(value), {DType::s64, {}});
}

Value local_start(Builder& b, const DimCut& cut) {
  if (!cut.is_cut()) return s64_constant(b, 0);
  return multiply(b, axis_index(b, cut.axes), s64_constant(b, cut.local));
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

Value masked_padding(Builder& b, Value x, int dim, const DimCut& cut, Value fill) {
  if (cut.local * size_of(cut.axes) == cut.size) return x;
  const Value end = subtract(b, s64_constant(b, cut.size), local_start(b, cut));
  const Shape shape = b.shape(x);
  return select(b, position_mask(b, shape, dim, s64_constant(b, 0), end), x,
                broadcast_scalar(b, fill, shape));
}

Value shifted_window(Builder& b, Value x, int dim, Value delta, int64_t size, Value fill) {
  const int64_t own = b.shape(x)[dim];
  Ints edge(static_cast<size_t>(b.shape(x).rank()), 0);
  edge[static_cast<size_t>(dim)] = size;
  const Value wide = pad(b, x, fill, edge, edge);
  const Value start = add(b, clamped_index(b, delta, -size, own), s64_constant(b, size));
  return dynamic_slice_dim(b, wide, dim, start, size);
}

}  // namespace tessera::ops
