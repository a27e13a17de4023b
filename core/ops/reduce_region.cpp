#include "core/ops/reduce_region.h"

#include <limits>

#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {

std::vector<Value> reduce(Builder& b, std::vector<Value> xs, std::vector<Value> inits,
                          Ints dimensions, GraphRef combiner) {
  const size_t count = xs.size();
  xs.insert(xs.end(), inits.begin(), inits.end());
  const Value first =
      b.emit(kReduce, std::move(xs),
             {{Attr::dimensions, std::move(dimensions)}, {Attr::combiner, std::move(combiner)}});
  std::vector<Value> results;
  for (size_t i = 0; i < count; ++i) results.push_back({first.instruction, static_cast<int>(i)});
  return results;
}

GraphRef extreme_region(DType dtype, bool largest) {
  auto region = std::make_shared<Graph>();
  region->name = largest ? "argmax" : "argmin";
  Builder b(*region);
  const TensorType value{dtype, {}}, index{DType::s32, {}};
  const Value x = b.input(InputKind::data, "x", value), i = b.input(InputKind::data, "i", index),
              y = b.input(InputKind::data, "y", value), j = b.input(InputKind::data, "j", index);
  const Value x_is_nan = compare(b, x, x, CompareDirection::ne),
              y_is_nan = compare(b, y, y, CompareDirection::ne);
  const Value x_wins =
      logical_or(b, compare(b, x, y, largest ? CompareDirection::gt : CompareDirection::lt),
                 logical_and(b, x_is_nan, logical_not(b, y_is_nan)));
  const Value is_tie =
      logical_or(b, compare(b, x, y, CompareDirection::eq), logical_and(b, x_is_nan, y_is_nan));
  const Value takes_x =
      logical_or(b, x_wins, logical_and(b, is_tie, compare(b, i, j, CompareDirection::lt)));
  b.output(select(b, takes_x, x, y), "value");
  b.output(select(b, takes_x, i, j), "index");
  return region;
}

namespace {

Extreme extreme(Builder& b, Value x, int64_t dimension, bool largest) {
  const Value index = iota(b, {DType::s32, b.shape(x)}, dimension);
  const DType dtype = b.dtype(x);
  const Value worst =
      constant(b, identity_of(largest ? ReduceKind::max : ReduceKind::min, dtype), {dtype, {}});
  const Value last = constant(b, std::numeric_limits<int32_t>::max(), {DType::s32, {}});
  const std::vector<Value> made =
      reduce(b, {x, index}, {worst, last}, {dimension}, extreme_region(dtype, largest));
  return {made[0], made[1]};
}

}  // namespace

Extreme argmax(Builder& b, Value x, int64_t dimension) { return extreme(b, x, dimension, true); }
Extreme argmin(Builder& b, Value x, int64_t dimension) { return extreme(b, x, dimension, false); }

GraphRef with_validity(const GraphRef& region) {
  auto wide = std::make_shared<Graph>();
  wide->name = cat(region->name, "_of_valid");
  Builder b(*wide);
  const size_t count = region->outputs.size();
  std::vector<Value> both;
  Value has[2];
  for (size_t side = 0; side < 2; ++side) {
    for (size_t i = 0; i < count; ++i)
      both.push_back(b.input(InputKind::data, cat("x", side, "_", i),
                             region->type(region->inputs[side * count + i].value)));
    has[side] = b.input(InputKind::data, cat("has", side), {DType::pred, {}});
  }
  const std::vector<Value> combined = call(b, region, both);
  const Value has_both = logical_and(b, has[0], has[1]);
  for (size_t i = 0; i < count; ++i)
    b.output(select(b, has_both, combined[i], select(b, has[0], both[i], both[count + i])),
             cat("y", i));
  b.output(logical_or(b, has[0], has[1]), "has");
  return wide;
}

}  // namespace tessera::ops
