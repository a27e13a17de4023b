// Ops that make, move and combine elements without arithmetic on them; and reduce.
#pragma once

#include "core/ir/builder.h"
#include "core/ir/parameter.h"

namespace tessera::ops {

// constant{value}, or constant{scalar, shape, dtype} with every element the same.
extern const OpDef kConstant;
Value constant(Builder& b, HostTensor value);
Value constant(Builder& b, double scalar, TensorType type);
// Of the type of `x`.
Value constant_like(Builder& b, Value x, double scalar);
Value zeros_like(Builder& b, Value x);

// iota{dimension, shape, dtype}: element = its index along `dimension`. Positional there.
extern const OpDef kIota;
Value iota(Builder& b, TensorType type, int64_t dimension);

// broadcast_in_dim{shape, dimensions}(x): dim d of x becomes dim dimensions[d] of the result, and
// is repeated if its size is 1. `dimensions` ascend.
extern const OpDef kBroadcastInDim;
Value broadcast_in_dim(Builder& b, Value x, const Shape& shape, Ints dimensions);
// A scalar to `shape`; x to the shape of `like` along its last dims.
Value broadcast_scalar(Builder& b, Value x, const Shape& shape);
Value broadcast_last(Builder& b, Value x, const Shape& shape);

// reshape{shape}(x): same elements, same row-major order. Returns x where the shape is already
// right.
extern const OpDef kReshape;
Value reshape(Builder& b, Value x, const Shape& shape);

// transpose{dimensions}(x): dim i of the result is dim dimensions[i] of x.
extern const OpDef kTranspose;
Value transpose(Builder& b, Value x, Ints dimensions);

// concatenate{dimension}(xs...)
extern const OpDef kConcatenate;
Value concatenate(Builder& b, std::vector<Value> xs, int64_t dimension);

// slice{start_indices, limit_indices, strides}(x)
extern const OpDef kSlice;
Value slice(Builder& b, Value x, Ints start, Ints limit, Ints strides = {});
// All of the other dims.
Value slice_dim(Builder& b, Value x, int64_t dimension, int64_t start, int64_t limit);

// pad{edge_low, edge_high, interior}(x, value): `interior` elements between neighbours, then
// edge_low before and edge_high behind; negative edges cut elements off.
extern const OpDef kPad;
Value pad(Builder& b, Value x, Value value, Ints low, Ints high, Ints interior = {});

// reverse{dimensions}(x): the order of elements along these dims turned round.
extern const OpDef kReverse;
Value reverse(Builder& b, Value x, Ints dimensions);

// rotate{dimension, shift}(x): element i of the result is element i + shift, modulo the size. What
// concatenate(slice(x, k, n), slice(x, 0, k)) is; one op, so that on shards it is one shift.
extern const OpDef kRotate;
Value rotate(Builder& b, Value x, int64_t dimension, int64_t places);

// reduce{dimensions, reduce_kind}(x): the reduced dims vanish. Starts from the combiner's identity,
// or with a second operand from that scalar. With a region instead of a kind: reduce_region.h.
extern const OpDef kReduce;
Value reduce(Builder& b, Value x, Ints dimensions, ReduceKind kind = ReduceKind::sum);
Value reduce_all(Builder& b, Value x, ReduceKind kind = ReduceKind::sum);

// The neutral element of `kind`: 0, -inf (or the lowest integer), inf, 1, true, false.
double identity_of(ReduceKind kind, DType dtype);

}  // namespace tessera::ops
