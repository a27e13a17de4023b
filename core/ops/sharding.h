// Ops that change how a value lies on the mesh, never the logical value: with global shapes each is
// the identity. After localize the attribute `shape` holds the local result shape.
//
// Only the communicator and the sharded interpreter know what each device holds, so eval refuses
// local shapes.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// reshard{sharding}(x): wanted lying; gone after the pass that turns reshards into collectives.
extern const OpDef kReshard;
Value reshard(Builder& b, Value x, Sharding sharding);

// all_gather{dimension, axes}: `axes` leave the minor end of the dim's axis list.
extern const OpDef kAllGather;
Value all_gather(Builder& b, Value x, int64_t dimension, AxisList axes);

// all_slice{dimension, axes}: each device keeps its block; `axes` join the minor end. No traffic.
extern const OpDef kAllSlice;
Value all_slice(Builder& b, Value x, int64_t dimension, AxisList axes);

// all_to_all{split_dimension, concat_dimension, axes}: `axes` leave the minor end of
// concat_dimension and join the minor end of split_dimension.
extern const OpDef kAllToAll;
Value all_to_all(Builder& b, Value x, int64_t split_dimension, int64_t concat_dimension,
                 AxisList axes);

// collective_permute{axes, target_axes}: the device at coordinate c along `axes` sends its shard to
// the device at coordinate c along `target_axes` (lists of equal total size).
extern const OpDef kCollectivePermute;
Value collective_permute(Builder& b, Value x, AxisList axes, AxisList target_axes);
// collective_permute{axes, sources}: any relabelling. The device at coordinate c along `axes` gets
// the shard of the one at coordinate sources[c], or zeros where that is -1; no source sends twice.
Value collective_permute_from(Builder& b, Value x, AxisList axes, Ints sources);

// shift{axes, shift, wrap}(x), on local shapes only: the device at coordinate c along `axes` sends x
// to the device at c + shift (modulo their number where `wrap`); who receives nothing gets zeros.
extern const OpDef kShift;
Value shift(Builder& b, Value x, AxisList axes, int64_t places, bool wrap = false);

// all_reduce{axes, reduce_kind}: partial over `axes` -> whole.
extern const OpDef kAllReduce;
Value all_reduce(Builder& b, Value x, AxisList axes, ReduceKind kind = ReduceKind::sum);

// reduce_scatter{dimension, axes, reduce_kind}: all_reduce, then all_slice.
extern const OpDef kReduceScatter;
Value reduce_scatter(Builder& b, Value x, int64_t dimension, AxisList axes,
                     ReduceKind kind = ReduceKind::sum);

// replicated_to_partial{axes, reduce_kind}: coordinate 0 keeps the value, the others the identity
// of the combiner. No traffic.
extern const OpDef kReplicatedToPartial;
Value replicated_to_partial(Builder& b, Value x, AxisList axes, ReduceKind kind = ReduceKind::sum);

// axis_index{axes} -> s64[]: the device's coordinate along the list, read as one number.
extern const OpDef kAxisIndex;
Value axis_index(Builder& b, AxisList axes);

}  // namespace tessera::ops
