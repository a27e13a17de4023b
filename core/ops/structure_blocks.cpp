// Ops that join and cut blocks: concatenate, slice, pad.
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// The factors of an op that shares each dim with its result where `is_shared` says so; the others
// have factors of their own that need replication.
template <typename IsShared>
FactorRule shared_dims(const OpCall& call, const TensorType& result, int operand_count,
                       IsShared is_shared) {
  FactorRule rule;
  std::vector<int> shared;
  for (int d = 0; d < result.rank(); ++d)
    shared.push_back(is_shared(d) ? add_factor(rule, result.shape[d]) : -1);
  auto tensor = [&](const TensorType& type) {
    std::vector<int> dims = shared;
    for (int d = 0; d < type.rank(); ++d)
      if (!is_shared(d)) dims[d] = add_factor(rule, type.shape[d], FactorKind::need_replication);
    return dims_of(dims);
  };
  for (int i = 0; i < operand_count; ++i) rule.operands.push_back(tensor(call.operands[i]));
  rule.results.push_back(tensor(result));
  add_starts(rule, call);
  return rule;
}

// ---- concatenate --------------------------------------------------------------------------------

std::vector<TensorType> infer_concatenate(const OpCall& call) {
  require(!call.operands.empty(), "concatenate: takes at least one operand");
  TensorType type = call.operands[0];
  const auto dimension = static_cast<int>(call.attributes.integer(Attr::dimension));
  require(dimension >= 0 && dimension < type.rank(), "concatenate: dimension ", dimension, " of ",
          type);
  for (size_t i = 1; i < call.operands.size(); ++i) {
    TensorType other = call.operands[i];
    bool fits = other.rank() == type.rank();
    if (fits) {
      type.shape[dimension] += other.shape[dimension];
      other.shape[dimension] = type.shape[dimension];
    }
    require(fits && other == type, "concatenate: operands ", call.operands[0], " and ",
            call.operands[i], " differ in more than dim ", dimension);
  }
  return {type};
}

void eval_concatenate(const OpCall& call, std::span<const HostTensor* const> x,
                      std::span<HostTensor> y) {
  std::vector<int64_t> start(static_cast<size_t>(y[0].shape().rank()), 0);
  const auto dimension = static_cast<int>(call.attributes.integer(Attr::dimension));
  for (const HostTensor* block : x) {
    y[0].put(start, *block);
    start[dimension] += block->shape()[dimension];
  }
}

std::vector<Value> grad_concatenate(GradContext& c) {
  const int64_t dimension = c.attributes().integer(Attr::dimension);
  const Value dy = c.cotangent(0);
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  int64_t start = 0;
  for (int i = 0; i < c.operand_count(); ++i) {
    const int64_t limit = start + c.operand_type(i).shape[static_cast<int>(dimension)];
    if (c.needs_gradient(i)) cotangents[i] = slice_dim(c.builder(), dy, dimension, start, limit);
    start = limit;
  }
  return cotangents;
}

FactorRule concatenate_factors(const OpCall& call, std::span<const TensorType> results) {
  const int64_t dimension = call.attributes.integer(Attr::dimension);
  return shared_dims(call, results[0], static_cast<int>(call.operands.size()),
                     [&](int d) { return d != dimension; });
}

std::vector<OpSample> concatenate_samples() {
  const TensorType a{DType::f64, {4, 2}}, b{DType::f64, {4, 6}};
  return {{{a, b, a}, {{Attr::dimension, int64_t{1}}}}, {{b, b}, {{Attr::dimension, int64_t{0}}}}};
}

// ---- slice --------------------------------------------------------------------------------------

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

FactorRule slice_factors(const OpCall& call, std::span<const TensorType> results) {
  const SliceBounds bounds = bounds_of(call.attributes);
  return shared_dims(call, results[0], 1,
                     [&](int d) { return is_whole(bounds, call.operands[0].shape, d); });
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
  return {sample({4, 6}, {0, 2}, {4, 5}, {1, 1}), sample({4, 8}, {0, 1}, {4, 8}, {1, 3}),
          sample({2, 4, 6}, {0, 0, 0}, {2, 4, 6}, {1, 1, 1})};
}

// ---- pad ----------------------------------------------------------------------------------------

struct PadAmounts {
  const Ints &low, &high, &interior;
};
PadAmounts amounts_of(const Attributes& a) {
  return {a.ints(Attr::edge_low), a.ints(Attr::edge_high), a.ints(Attr::interior)};
}

std::vector<TensorType> infer_pad(const OpCall& call) {
  check_operand_count("pad", call, 2);
  const TensorType& x = call.operands[0];
  require(call.operands[1] == TensorType{x.dtype, {}}, "pad: the value for ", x, " must be ",
          x.dtype, "[], not ", call.operands[1]);
  const auto [low, high, interior] = amounts_of(call.attributes);
  const auto rank = static_cast<size_t>(x.rank());
  require(low.size() == rank && high.size() == rank && interior.size() == rank, "pad: low [",
          join(low, ","), "] high [", join(high, ","), "] interior [", join(interior, ","),
          "] for ", x);
  Shape shape;
  for (size_t d = 0; d < rank; ++d) {
    require(low[d] >= 0 && high[d] >= 0 && interior[d] >= 0, "pad: negative amount in dim ", d,
            " of ", x, ": low ", low[d], " high ", high[d], " interior ", interior[d]);
    const int64_t size = x.shape[static_cast<int>(d)];
    shape.push_back(low[d] + size + std::max<int64_t>(size - 1, 0) * interior[d] + high[d]);
  }
  return {{x.dtype, shape}};
}

void eval_pad(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const auto [low, high, interior] = amounts_of(call.attributes);
  std::vector<int64_t> steps = y[0].shape().strides();
  copy_elements(*x[1], 0, std::vector<int64_t>(steps.size(), 0), y[0], 0, steps, y[0].shape());
  int64_t offset = 0;
  for (size_t d = 0; d < steps.size(); ++d) {
    offset += low[d] * steps[d];
    steps[d] *= interior[d] + 1;
  }
  copy_elements(*x[0], 0, x[0]->shape().strides(), y[0], offset, steps, x[0]->shape());
}

std::vector<Value> grad_pad(GradContext& c) {
  Builder& b = c.builder();
  const auto [low, high, interior] = amounts_of(c.attributes());
  const Shape &x = c.operand_type(0).shape, &y = c.result_type(0).shape;
  Ints limit, strides;
  for (int d = 0; d < x.rank(); ++d) {
    limit.push_back(y[d] - high[d]);
    strides.push_back(interior[d] + 1);
  }
  const Value dy = c.cotangent(0), dx = slice(b, dy, low, limit, strides);
  std::vector<Value> cotangents(2);
  if (c.needs_gradient(0)) cotangents[0] = dx;
  if (c.needs_gradient(1)) cotangents[1] = subtract(b, reduce_all(b, dy), reduce_all(b, dx));
  return cotangents;
}

FactorRule pad_factors(const OpCall& call, std::span<const TensorType> results) {
  const auto [low, high, interior] = amounts_of(call.attributes);
  return shared_dims(call, results[0], 1,
                     [&](int d) { return low[d] == 0 && high[d] == 0 && interior[d] == 0; });
}

std::vector<OpSample> pad_samples() {
  auto sample = [](Shape x, Ints low, Ints high, Ints interior) {
    return OpSample{{{DType::f64, x}, {DType::f64, {}}},
                    {{Attr::edge_low, low}, {Attr::edge_high, high}, {Attr::interior, interior}}};
  };
  return {sample({4, 6}, {0, 1}, {0, 2}, {0, 0}), sample({2, 4}, {1, 0}, {0, 0}, {2, 0})};
}

}  // namespace

const OpDef kConcatenate{.name = "concatenate",
                         .attributes = {Attr::dimension},
                         .infer = infer_concatenate,
                         .eval = eval_concatenate,
                         .grad = grad_concatenate,
                         .factors = concatenate_factors,
                         .linear = linear_in_all,
                         .flops = no_flops,
                         .samples = concatenate_samples};
const OpDef kSlice{.name = "slice",
                   .attributes = {Attr::start_indices, Attr::limit_indices, Attr::strides},
                   .infer = infer_slice,
                   .eval = eval_slice,
                   .grad = grad_slice,
                   .factors = slice_factors,
                   .linear = linear_in_all,
                   .localize = localize_slice,
                   .flops = no_flops,
                   .samples = slice_samples};
// Linear jointly with its value: a partial x meets a replicated value as in an addition.
const OpDef kPad{.name = "pad",
                 .attributes = {Attr::edge_low, Attr::edge_high, Attr::interior},
                 .infer = infer_pad,
                 .eval = eval_pad,
                 .grad = grad_pad,
                 .factors = pad_factors,
                 .linear = linear_in_all,
                 .flops = no_flops,
                 .samples = pad_samples};

Value concatenate(Builder& b, std::vector<Value> xs, int64_t dimension) {
  return b.emit(kConcatenate, std::move(xs), {{Attr::dimension, dimension}});
}
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
Value pad(Builder& b, Value x, Value value, Ints low, Ints high, Ints interior) {
  if (interior.empty()) interior.assign(low.size(), 0);
  return b.emit(kPad, {x, value},
                {{Attr::edge_low, std::move(low)},
                 {Attr::edge_high, std::move(high)},
                 {Attr::interior, std::move(interior)}});
}

}  // namespace tessera::ops
