// slice: a strided block, on shards by halo exchange.
#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/halo.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

struct SliceBounds {
  const Ints &start, &limit, &strides;
};
SliceBounds bounds_of(const Attributes& a) {
  return {a.ints(Attr::start_indices), a.ints(Attr::limit_indices), a.ints(Attr::strides)};
}

std::vector<TensorType> infer_slice(const OpCall& call) {
  check_operand_count("slice", call, 1);
  const TensorType& x = call.operands[0];
  const auto [start, limit, strides] = bounds_of(call.attributes);
  const auto rank = static_cast<size_t>(x.rank());
  require(start.size() == rank && limit.size() == rank && strides.size() == rank, "slice: [",
          join(start, ","), "] to [", join(limit, ","), "] by [", join(strides, ","), "] for ", x);
  Shape shape;
  for (size_t d = 0; d < rank; ++d) {
    const int64_t size = x.shape[static_cast<int>(d)];
    require(0 <= start[d] && start[d] <= limit[d] && limit[d] <= size && strides[d] >= 1,
            "slice: dim ", d, " from ", start[d], " to ", limit[d], " by ", strides[d],
            " does not lie in ", x);
    shape.push_back((limit[d] - start[d] + strides[d] - 1) / strides[d]);
  }
  return {{x.dtype, shape}};
}

void eval_slice(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const auto [start, limit, strides] = bounds_of(call.attributes);
  std::vector<int64_t> steps = x[0]->shape().strides();
  int64_t offset = 0;
  for (size_t d = 0; d < steps.size(); ++d) {
    offset += start[d] * steps[d];
    steps[d] *= strides[d];
  }
  copy_elements(*x[0], offset, steps, y[0], 0, y[0].shape().strides(), y[0].shape());
}

std::vector<Value> grad_slice(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  Builder& b = c.builder();
  const auto [start, limit, strides] = bounds_of(c.attributes());
  const Shape &x = c.operand_type(0).shape, &y = c.result_type(0).shape;
  Ints high, interior;
  for (int d = 0; d < x.rank(); ++d) {
    const int64_t covered = y[d] == 0 ? 0 : (y[d] - 1) * strides[d] + 1;
    high.push_back(x[d] - start[d] - covered);
    interior.push_back(strides[d] - 1);
  }
  const Value dy = c.cotangent(0);
  return {pad(b, dy, constant(b, 0.0, {b.dtype(dy), {}}), start, high, interior)};
}

bool is_whole(const SliceBounds& bounds, const Shape& shape, int d) {
  return bounds.start[d] == 0 && bounds.limit[d] == shape[d] && bounds.strides[d] == 1;
}

// A small stretch of a long dim lies in few shards: each device gives what it has of it, and the
// sum is sent instead of shards. Sums need numbers.
bool is_picked(const OpCall& call, int d) {
  const SliceBounds bounds = bounds_of(call.attributes);
  return (bounds.limit[d] - bounds.start[d]) * 4 <= call.operands[0].shape[d] &&
         call.operands[0].dtype != DType::pred;
}

FactorRule slice_factors(const OpCall& call, std::span<const TensorType> results) {
  const SliceBounds bounds = bounds_of(call.attributes);
  const Shape &x = call.operands[0].shape, &y = results[0].shape;
  FactorRule rule;
  std::vector<int> operand, result;
  for (int d = 0; d < x.rank(); ++d) {
    if (is_whole(bounds, x, d)) {
      operand.push_back(add_factor(rule, x[d]));
      result.push_back(operand.back());
    } else if (is_picked(call, d)) {
      operand.push_back(add_factor(rule, x[d], FactorKind::reduction));
      result.push_back(add_factor(rule, y[d], FactorKind::need_replication));
    } else {
      const MovedDim dim = add_moved_dim(rule, x[d], y[d]);
      operand.push_back(dim.operand);
      result.push_back(dim.result);
    }
  }
  rule.operands = {dims_of(operand)};
  rule.results = {dims_of(result)};
  return rule;
}

// Of the rows that a device's `length` result rows are taken from.
HaloWindow slice_window(const SliceBounds& bounds, int d, int64_t length) {
  const int64_t stride = bounds.strides[d];
  return {{stride * length, bounds.start[d]}, (length - 1) * stride + 1};
}

std::vector<Value> partition_slice(PartitionContext& c) {
  Builder& b = c.builder();
  const Attributes attributes = c.call().attributes;
  const SliceBounds bounds = bounds_of(attributes);
  const Shape result = c.local_result_type(0).shape;
  Value x = c.operand(0);
  Ints start(bounds.start.size(), 0), strides = bounds.strides;
  for (int d = 0; d < result.rank(); ++d) {
    const CutDim cut = cut_dim(c, 0, d);
    const bool is_result_cut = !c.result_sharding(0).dims[static_cast<size_t>(d)].axes.empty();
    if (is_whole(bounds, c.call().operands[0].shape, d) && cut.shard == result[d]) continue;
    if (cut.parts() > 1 && !is_result_cut) {
      const Value first = AffineStart{-cut.shard, bounds.start[d]}.value(b, cut.axes);
      x = own_window(b, x, d, first, slice_window(bounds, d, result[d]).length);
    } else if (cut.parts() > 1 || bounds.limit[d] > cut.shard) {
      x = halo_window(b, x, cut, slice_window(bounds, d, result[d]),
                      {HaloFill::Kind::anything, {}});
    } else {
      start[d] = bounds.start[d];
    }
  }
  Ints limit;
  for (int d = 0; d < result.rank(); ++d)
    limit.push_back(start[d] + (result[d] - 1) * strides[d] + 1);
  if (b.shape(x) == result &&
      std::all_of(start.begin(), start.end(), [](auto s) { return s == 0; }))
    return {x};
  return {slice(b, x, start, limit, strides)};
}

double slice_exchange(const OpCall& call, std::span<const TensorType> results,
                      std::span<const AxisList> axes) {
  const FactorRule rule = slice_factors(call, results);
  const CutShapes shapes(rule, axes);
  const TensorType& x = call.operands[0];
  const Shape local = shapes.local(x.shape, rule.operands[0]);
  const Shape result = shapes.local(results[0].shape, rule.results[0]);
  ExchangeBytes bytes(size_of(x.dtype));
  for (int d = 0; d < x.rank(); ++d)
    if (!is_whole(bounds_of(call.attributes), x.shape, d) &&
        !shapes.axes_of(rule.results[0], d).empty())
      bytes.add(shapes.cut(x.shape, rule.operands[0], d),
                slice_window(bounds_of(call.attributes), d, result[d]), local);
  return bytes.total();
}

Attributes localize_slice(const OpCall& global, std::span<const TensorType> local_operands,
                          std::span<const TensorType>) {
  Attributes local = global.attributes;
  Ints limit = bounds_of(global.attributes).limit;
  for (int d = 0; d < global.operands[0].rank(); ++d)
    if (is_whole(bounds_of(global.attributes), global.operands[0].shape, d))
      limit[d] = local_operands[0].shape[d];
  local.set(Attr::limit_indices, limit);
  return local;
}

std::vector<OpSample> slice_samples() {
  auto sample = [](Shape x, Ints start, Ints limit, Ints strides) {
    return OpSample{
        {{DType::f64, x}},
        {{Attr::start_indices, start}, {Attr::limit_indices, limit}, {Attr::strides, strides}}};
  };
  return {sample({4, 6}, {0, 2}, {4, 5}, {1, 1}),
          sample({4, 8}, {0, 1}, {4, 8}, {1, 3}),
          sample({2, 4, 6}, {0, 0, 0}, {2, 4, 6}, {1, 1, 1}),
          sample({8, 2}, {1, 0}, {7, 2}, {1, 1}),
          sample({12, 4}, {2, 0}, {11, 3}, {3, 2}),
          sample({16}, {9}, {11}, {1}),
          sample({8, 12}, {7, 1}, {8, 4}, {1, 2})};
}

}  // namespace

const OpDef kSlice{.name = "slice",
                   .attributes = {Attr::start_indices, Attr::limit_indices, Attr::strides},
                   .infer = infer_slice,
                   .eval = eval_slice,
                   .grad = grad_slice,
                   .factors = slice_factors,
                   .linear = linear_in_all,
                   .localize = localize_slice,
                   .partition = partition_slice,
                   .exchange_bytes = slice_exchange,
                   .partition_always = true,
                   .pad_needs = no_pad_needs,
                   .flops = no_flops,
                   .samples = slice_samples};

Value slice(Builder& b, Value x, Ints start, Ints limit, Ints strides) {
  if (strides.empty()) strides.assign(start.size(), 1);
  return b.emit(kSlice, {x},
                {{Attr::start_indices, std::move(start)},
                 {Attr::limit_indices, std::move(limit)},
                 {Attr::strides, std::move(strides)}});
}
Value slice_dim(Builder& b, Value x, int64_t dimension, int64_t start, int64_t limit) {
  Ints starts(static_cast<size_t>(b.shape(x).rank()), 0), limits = ints_of(b.shape(x));
  starts[dimension] = start;
  limits[dimension] = limit;
  return slice(b, x, starts, limits);
}

}  // namespace tessera::ops
