// What an op's `partition` sees: how its tensors lie, and the local graph under construction.
//
// The generic way of an op is to run on local shapes as it is. An op with permutation factors, or
// with attributes that hold global positions, writes a `partition` instead: called by localize with
// the axes that were chosen per factor, it emits local instructions (shifts, slices, the op itself)
// and returns the local results. All shapes it builds with are local; the values it makes on the way
// may differ from device to device.
//
// Extents: a dim of logical size n cut over s devices is stored as s shards of equal local size L,
// n <= s L (padded). The device at coordinate c holds the logical elements [c L, c L + L) that are
// < n; what lies at n and above is padding, may hold anything (NaN too), and must never reach a
// valid element of a result. L may be larger than ceil(n / s), and the last shards may be empty.
#pragma once

#include <vector>

#include "core/ir/builder.h"

namespace tessera {

class PartitionContext {
 public:
  virtual ~PartitionContext() = default;

  virtual Builder& builder() = 0;  // of the local graph

  // Logical (global, unpadded) types and the attributes that go with them.
  virtual const OpCall& call() const = 0;
  virtual std::span<const TensorType> result_types() const = 0;
  virtual const FactorRule& rule() const = 0;
  virtual const AxisList& axes(int factor) const = 0;  // the mesh axes that cut the factor

  virtual Value operand(int index) const = 0;  // this device's shard
  virtual const Sharding& operand_sharding(int index) const = 0;
  virtual const Sharding& result_sharding(int index) const = 0;
  // The local type each result must have.
  virtual const TensorType& local_result_type(int index) const = 0;
};

}  // namespace tessera
