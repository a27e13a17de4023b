// How a tensor gets from one lying to another that stores it in another size.
//
// A dim that is whole before or after is resized there, which is local. A dim that is in shards on both
// sides and padded to two sizes changes from one to the other in one of these places:
//
//     f32[5], <x=2, y=2>, stored 6 -> 8           {x} -> {x,y}
//       as it lies before     resize {x} 6 -> 8: one row from the next shard;    all_slice y
//       as it lies after      no: 4 shards do not hold 6
//       whole                 all_gather x; resize 6 -> 8;                       all_slice x,y
//
//     f32[13], <x=2, y=2, z=3>, stored 16 -> 18   {x,y} -> {x,z}
//       in the major axes that both have: all_gather y; resize {x} 16 -> 18: one row; all_slice z
//
//     f32[1000], <x=3, y=5>, stored 1002 -> 1000  {x} -> {y}
//       by a size that both divide: resize {x} 1002 -> 1005; move; resize {y} 1005 -> 1000
//
// Resizing a dim in shards is a halo exchange (core/ops/padding.h). Of the ways that there are the one
// that takes least time by the machine model is chosen, for one dim after the other.
#pragma once

#include "partitioner/reshard_search.h"

namespace tessera {

// resize to `first` as it lies; reshard to `middle`; resize to the wanted size; reshard.
struct ResizeRoute {
  Shape first;
  Sharding middle;
  int whole = 0;  // dims that are in shards before and after, and whole in the middle
};

// Of a tensor of `type` that lies `before`, stored as `from`, to where it lies `after`, stored as `to`.
ResizeRoute resize_route(const Sharding& before, const Sharding& after, const TensorType& type,
                         const Shape& from, const Shape& to, ReshardPlanner& planner);

}  // namespace tessera
