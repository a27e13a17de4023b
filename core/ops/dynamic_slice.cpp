// A dim of which the slice takes only a part stays where it is when it is sharded: dynamic_slice
// gives zeros for what other shards hold (a reduction factor, so the whole is the sum), and
// dynamic_update_slice writes the part of the update that falls into the own shard. Both clamp on
// global extents before they localise: a start beyond the own shard is not the same as one beyond
// the tensor.
#include "core/ops/dynamic_slice.h"

#include <algorithm>

#include "core/ir/padding.h"
#include "core/ops/elementwise.h"
#include "core/ops/partition_support.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// Checks the starts behind the `own` operands.
void check_starts(std::string_view op, const OpCall& call, size_t own, int rank) {
  require(call.operands.size() == own + static_cast<size_t>(rank), op,
          ": takes a start per dim of ", call.operands.empty() ? TensorType{} : call.operands[0],
          " behind ", own, " operands, got ", types_text(call.operands));
  for (size_t i = own; i < call.operands.size(); ++i)
    require(call.operands[i].rank() == 0 && is_integer(call.operands[i].dtype) &&
                call.operands[i] == call.operands[own],
            op, ": starts are scalars of one integer type, got ", types_text(call.operands));
}

std::vector<TensorType> infer_slice(const OpCall& call) {
  require(!call.operands.empty(), "dynamic_slice: takes an operand and its starts, got none");
  const TensorType& x = call.operands[0];
  check_starts("dynamic_slice", call, 1, x.rank());
  const Shape sizes(call.attributes.ints(Attr::slice_sizes));
  bool fits = sizes.rank() == x.rank();
  for (int d = 0; fits && d < x.rank(); ++d) fits = sizes[d] >= 0 && sizes[d] <= x.shape[d];
  require(fits, "dynamic_slice: slice_sizes ", sizes, " do not fit ", x);
  return {{x.dtype, sizes}};
}

std::vector<TensorType> infer_update(const OpCall& call) {
  require(call.operands.size() >= 2,
          "dynamic_update_slice: takes an operand, an update and starts, got ",
          types_text(call.operands));
  const TensorType &x = call.operands[0], &update = call.operands[1];
  check_starts("dynamic_update_slice", call, 2, x.rank());
  bool fits = x.dtype == update.dtype && x.rank() == update.rank();
  for (int d = 0; fits && d < x.rank(); ++d) fits = update.shape[d] <= x.shape[d];
  require(fits, "dynamic_update_slice: update ", update, " does not fit into ", x);
  return {x};
}

// Clamped so that a block of `sizes` lies inside `shape`.
std::vector<int64_t> clamped_starts(std::span<const HostTensor* const> starts, const Shape& shape,
                                    const Shape& sizes) {
  std::vector<int64_t> clamped;
  for (int d = 0; d < shape.rank(); ++d) {
    const HostTensor& start = *starts[static_cast<size_t>(d)];
    int64_t value = start.get_int(0);
    if (start.dtype() == DType::u64 && value < 0) value = shape[d];  // beyond every index
    clamped.push_back(std::clamp<int64_t>(value, 0, shape[d] - sizes[d]));
  }
  return clamped;
}

void eval_slice(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  y[0] = x[0]->slice(clamped_starts(x.subspan(1), x[0]->shape(), y[0].shape()), y[0].shape());
}

void eval_update(const OpCall&, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  y[0] = *x[0];
  y[0].put(clamped_starts(x.subspan(2), x[0]->shape(), x[1]->shape()), *x[1]);
}

std::vector<Value> starts_of(GradContext& c, int first) {
  std::vector<Value> starts;
  for (int i = first; i < c.operand_count(); ++i) starts.push_back(c.operand(i));
  return starts;
}

std::vector<Value> grad_slice(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  if (!c.needs_gradient(0)) return cotangents;
  Builder& b = c.builder();
  const Value zeros = constant(b, 0, c.operand_type(0));
  cotangents[0] = dynamic_update_slice(b, zeros, c.cotangent(0), starts_of(c, 1));
  return cotangents;
}

std::vector<Value> grad_update(GradContext& c) {
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  Builder& b = c.builder();
  const Value dy = c.cotangent(0);
  if (c.needs_gradient(0))
    cotangents[0] = dynamic_update_slice(b, dy, constant(b, 0, c.operand_type(1)), starts_of(c, 2));
  if (c.needs_gradient(1))
    cotangents[1] = dynamic_slice(b, dy, starts_of(c, 2), ints_of(c.operand_type(1).shape));
  return cotangents;
}

// Whole dims are shared; of the others the tensor sharded in place has `kind`, the slice its own.
FactorRule slice_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> operand, result;
  for (int d = 0; d < results[0].rank(); ++d) {
    const int64_t whole = call.operands[0].shape[d], part = results[0].shape[d];
    operand.push_back(
        add_factor(rule, whole, whole == part ? FactorKind::pass_through : FactorKind::reduction));
    result.push_back(whole == part ? operand.back()
                                   : add_factor(rule, part, FactorKind::need_replication));
  }
  rule.operands = {dims_of(operand)};
  rule.results = {dims_of(result)};
  add_starts(rule, call);
  return rule;
}

FactorRule update_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> operand, update;
  for (int d = 0; d < call.operands[0].rank(); ++d) {
    const int64_t whole = call.operands[0].shape[d], part = call.operands[1].shape[d];
    operand.push_back(add_factor(rule, whole));
    update.push_back(whole == part ? operand.back()
                                   : add_factor(rule, part, FactorKind::need_replication));
  }
  rule.operands = {dims_of(operand), dims_of(update)};
  rule.results = {dims_of(operand)};
  add_starts(rule, call);
  return rule;
}

std::vector<LinearSet> linear_slice(const OpCall&) {
  return {{{0}, ReduceKind::sum}, {{0}, ReduceKind::max}, {{0}, ReduceKind::min}};
}
std::vector<LinearSet> linear_update(const OpCall&) {
  return {{{0, 1}, ReduceKind::sum}, {{0, 1}, ReduceKind::max}, {{0, 1}, ReduceKind::min}};
}

// ---- On one device ------------------------------------------------------------------------------

// Where a slice of `part` elements of a dim lies in the own shard.
struct LocalSlice {
  CutDim cut;
  int64_t part = 0;       // of the slice
  int64_t window = 0;     // elements of the own shard that may be concerned
  bool is_split = false;  // the slice may lie in several shards
  Value start;            // s64[]: global, clamped
  Value first;            // s64[]: local position of the window
  Value offset;           // s64[]: global position of the window
};

LocalSlice local_slice(PartitionContext& c, int dim, Value start, int64_t part) {
  Builder& b = c.builder();
  LocalSlice slice{cut_dim(c, 0, dim), part, 0, false, {}, {}, {}};
  const int64_t whole = slice.cut.size, local = slice.cut.shard;
  if (whole == part) {  // the same dim on both sides, sharded or not
    slice.window = local;
    slice.start = slice.first = slice.offset = scalar_s64(b, 0);
    return slice;
  }
  slice.start = clamped_index(b, start, 0, whole - part);
  slice.is_split = slice.cut.is_cut();
  slice.window = slice.is_split ? std::min(part, local) : part;
  if (!slice.is_split) {
    slice.first = slice.offset = slice.start;
    return slice;
  }
  const Value begin = local_start(b, slice.cut);
  slice.first = clamped_index(b, subtract(b, slice.start, begin), 0, local - slice.window);
  slice.offset = add(b, begin, slice.first);
  return slice;
}

std::vector<LocalSlice> local_slices(PartitionContext& c, int first_start, const Shape& parts) {
  std::vector<LocalSlice> slices;
  for (int d = 0; d < parts.rank(); ++d)
    slices.push_back(local_slice(c, d, c.operand(first_start + d), parts[d]));
  return slices;
}

Value read_window(Builder& b, Value x, const std::vector<LocalSlice>& slices) {
  std::vector<Value> firsts;
  Ints sizes;
  for (const LocalSlice& slice : slices) {
    firsts.push_back(slice.first);
    sizes.push_back(slice.window);
  }
  return dynamic_slice(b, x, firsts, sizes);
}

std::vector<Value> partition_slice(PartitionContext& c) {
  Builder& b = c.builder();
  const std::vector<LocalSlice> slices = local_slices(c, 1, c.result_types()[0].shape);
  Value y = read_window(b, c.operand(0), slices);
  const Value zero = constant(b, 0, {b.dtype(y), {}});
  for (size_t d = 0; d < slices.size(); ++d) {
    const LocalSlice& slice = slices[d];
    if (slice.is_split)
      y = shifted_window(b, y, static_cast<int>(d), subtract(b, slice.start, slice.offset),
                         slice.part, zero);
  }
  return {y};
}

std::vector<Value> partition_update(PartitionContext& c) {
  Builder& b = c.builder();
  const std::vector<LocalSlice> slices = local_slices(c, 2, c.call().operands[1].shape);
  Value update = c.operand(1), mask;
  std::vector<Value> firsts;
  Shape window;
  for (const LocalSlice& slice : slices) {
    firsts.push_back(slice.first);
    window.push_back(slice.window);
  }
  const Value zero = constant(b, 0, {b.dtype(update), {}});
  for (size_t d = 0; d < slices.size(); ++d) {
    const LocalSlice& slice = slices[d];
    if (!slice.is_split) continue;
    const int dim = static_cast<int>(d);
    // Element i of the window takes element offset + i - start of the update.
    update =
        shifted_window(b, update, dim, subtract(b, slice.offset, slice.start), slice.window, zero);
    const Value low = subtract(b, slice.start, slice.offset);
    const Value own = position_mask(b, window, dim, low, add(b, low, scalar_s64(b, slice.part)));
    mask = mask.valid() ? logical_and(b, mask, own) : own;
  }
  if (mask.valid()) update = select(b, mask, update, read_window(b, c.operand(0), slices));
  return {dynamic_update_slice(b, c.operand(0), update, firsts)};
}

// ---- Test inputs --------------------------------------------------------------------------------

OpSample slice_sample(DType dtype, Shape x, Ints sizes, DType index = DType::s32) {
  OpSample sample{{{dtype, x}}, {{Attr::slice_sizes, sizes}}, {{-1, 1}}, dtype == DType::f64};
  for (int64_t size : x) {
    sample.operands.push_back({index, {}});
    sample.ranges.push_back({is_signed_integer(index) ? -2.0 : 0.0, static_cast<double>(size + 2)});
  }
  return sample;
}

std::vector<OpSample> slice_samples() {
  return {slice_sample(DType::f64, {8, 6}, {3, 6}),
          slice_sample(DType::f64, {8, 6}, {1, 2}),
          slice_sample(DType::f64, {2, 4, 6}, {2, 4, 5}, DType::s64),
          slice_sample(DType::f64, {4}, {4}),
          slice_sample(DType::bf16, {8, 6}, {5, 1}),
          slice_sample(DType::s32, {8, 4}, {7, 3}, DType::u64)};
}

std::vector<OpSample> update_samples() {
  std::vector<OpSample> samples = slice_samples();
  for (OpSample& sample : samples) {
    const TensorType update{sample.operands[0].dtype,
                            Shape(sample.attributes.ints(Attr::slice_sizes))};
    sample.operands.insert(sample.operands.begin() + 1, update);
    sample.ranges.insert(sample.ranges.begin() + 1, {-1, 1});
    sample.attributes = {};
  }
  return samples;
}

}  // namespace

const OpDef kDynamicSlice{.name = "dynamic_slice",
                          .attributes = {Attr::slice_sizes},
                          .infer = infer_slice,
                          .eval = eval_slice,
                          .grad = grad_slice,
                          .factors = slice_factors,
                          .linear = linear_slice,
                          .partition = partition_slice,
                          .partition_always = true,
                          .pad_needs = no_pad_needs,
                          .flops = no_flops,
                          .samples = slice_samples};
const OpDef kDynamicUpdateSlice{.name = "dynamic_update_slice",
                                .infer = infer_update,
                                .eval = eval_update,
                                .grad = grad_update,
                                .factors = update_factors,
                                .linear = linear_update,
                                .partition = partition_update,
                                .partition_always = true,
                                .pad_needs = no_pad_needs,
                                .flops = no_flops,
                                .samples = update_samples,
                                .alias = [](const OpCall&, int) { return 0; }};

Value dynamic_slice(Builder& b, Value x, std::vector<Value> starts, Ints sizes) {
  starts.insert(starts.begin(), x);
  return b.emit(kDynamicSlice, std::move(starts), {{Attr::slice_sizes, std::move(sizes)}});
}

namespace {

// `start` for one dim, zeros for the others.
std::vector<Value> starts_along(Builder& b, Value x, int64_t dimension, Value start) {
  std::vector<Value> starts(static_cast<size_t>(b.shape(x).rank()));
  for (size_t d = 0; d < starts.size(); ++d)
    starts[d] = static_cast<int64_t>(d) == dimension ? start : constant_like(b, start, 0);
  return starts;
}

}  // namespace

Value dynamic_slice_dim(Builder& b, Value x, int64_t dimension, Value start, int64_t size) {
  Ints sizes = ints_of(b.shape(x));
  sizes[static_cast<size_t>(dimension)] = size;
  return dynamic_slice(b, x, starts_along(b, x, dimension, start), sizes);
}

Value dynamic_update_slice(Builder& b, Value x, Value update, std::vector<Value> starts) {
  starts.insert(starts.begin(), {x, update});
  return b.emit(kDynamicUpdateSlice, std::move(starts));
}

Value dynamic_update_slice_dim(Builder& b, Value x, Value update, int64_t dimension, Value start) {
  return dynamic_update_slice(b, x, update, starts_along(b, x, dimension, start));
}

}  // namespace tessera::ops
