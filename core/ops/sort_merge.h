// Sorts along a sharded dim: each device sorts its shard, then neighbours merge theirs.
//
// An odd-even merge-split sort: in round r the devices 2i + r % 2 and their next ones swap shards,
// both merge the two, the lower device keeps the lower half. After as many rounds as there are
// devices the whole dim is in order. No device ever holds more than two shards. Every step is a
// stable sort of neighbouring elements, so the whole is stable. Private to core/ops.
#pragma once

#include <optional>
#include <vector>

#include "core/ir/partition_context.h"
#include "core/ops/combiner.h"

namespace tessera::ops {

// Over more devices the dim is gathered and sorted whole: the rounds would take too long.
constexpr int64_t kMostMergingDevices = 16;

std::vector<Value> partition_sort(PartitionContext& c);
// How many shards of each operand a device sends at most, for a dim cut over `axes`.
double sort_exchanges(const AxisList& axes);

// lt or gt: equal elements are in no order, so that a stable sort keeps theirs.
bool is_strict(const Comparison& comparison);
// What a sort orders by, where that is one operand in one direction.
std::optional<Comparison> sort_comparison(const Attributes& attributes);

// A comparator of `dtypes` and, behind them, pred: orders as the sort of `attributes` does, but
// what has the pred comes last.
GraphRef padding_last(const Attributes& attributes, const std::vector<DType>& dtypes);
// What such a comparator does: the operand that is the pred, and the order of the rest.
struct PaddingLast {
  int padding = 0;
  Comparison comparison;
};
// nullopt where the region is not one of padding_last, or the order is not by one operand.
std::optional<PaddingLast> as_padding_last(const Graph& region);

}  // namespace tessera::ops
