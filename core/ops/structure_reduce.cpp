// reduce: combines the elements along some dims.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/ops/elementwise.h"
#include "core/ops/partition_support.h"
#include "core/ops/reduce_call.h"
#include "core/ops/reduce_region.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

// The kind of partial results of shards; none where they must be gathered in order, or an initial
// value must be kept from counting once per shard.
std::optional<ReduceKind> partial_kind(const OpCall& call) {
  if (has_init(call)) return std::nullopt;
  const ReduceKind kind = numeric_kind(*known_kind(call));
  return kind == ReduceKind::product ? std::nullopt : std::optional(kind);
}

std::vector<TensorType> infer_reduce(const OpCall& call) {
  const bool has_region = call.attributes.has(Attr::combiner);
  require(has_region != call.attributes.has(Attr::reduce_kind),
          "reduce: takes either reduce_kind or combiner");
  const size_t given = call.operands.size(), count = reduced_count(call);
  require(has_region ? given >= 2 && given % 2 == 0 : given == 1 || given == 2, "reduce: takes ",
          has_region ? "operands and as many initial values"
                     : "one operand and at most one initial value",
          ", got ", types_text(call.operands));
  const TensorType& x = call.operands[0];
  const Ints& dims = call.attributes.ints(Attr::dimensions);
  for (size_t i = 0; i < dims.size(); ++i)
    require(
        dims[i] >= 0 && dims[i] < x.rank() && std::count(dims.begin(), dims.end(), dims[i]) == 1,
        "reduce: dimensions [", join(dims, ","), "] of ", x);
  Shape shape;
  for (int d = 0; d < x.rank(); ++d)
    if (!is_reduced(call.attributes, d)) shape.push_back(x.shape[d]);
  std::vector<TensorType> results;
  std::vector<DType> dtypes;
  for (size_t i = 0; i < count; ++i) {
    const TensorType& operand = call.operands[i];
    require(operand.shape == x.shape, "reduce: operands must have one shape, got ", x, " and ",
            operand);
    if (given > count)
      require(call.operands[count + i] == TensorType{operand.dtype, {}},
              "reduce: the initial value of ", operand, " must be a scalar of its type, not ",
              call.operands[count + i]);
    dtypes.push_back(operand.dtype);
    results.push_back({operand.dtype, shape});
  }
  if (!has_region) {
    check_kind("reduce", call.attributes.get<ReduceKind>(Attr::reduce_kind), x);
  } else {
    check_combiner("reduce", *call.attributes.get<GraphRef>(Attr::combiner), dtypes);
  }
  return results;
}

// Strides of the result along the dims of the operand.
std::vector<int64_t> result_strides(const OpCall& call, const Shape& result) {
  std::vector<int64_t> strides;
  const std::vector<int64_t> kept = result.strides();
  for (int d = 0, k = 0; d < call.operands[0].rank(); ++d)
    strides.push_back(is_reduced(call.attributes, d) ? 0 : kept[static_cast<size_t>(k++)]);
  return strides;
}

template <typename D>
void reduce_elements(const OpCall& call, std::span<const HostTensor* const> x, HostTensor& y) {
  const ReduceKind kind = *known_kind(call);
  const Elements<D> values = elements_of<D>(*x[0]);
  // Through the result's dtype, where the lowest integer is exact.
  Elements<D> sums = elements_of<D>(HostTensor::filled(y.type(), identity_of(kind, y.dtype())));
  if (has_init(call)) std::fill(sums.begin(), sums.end(), elements_of<D>(*x[1])[0]);
  walk(x[0]->shape(), x[0]->shape().strides(), result_strides(call, y.shape()),
       [&](int64_t from, int64_t to) {
         sums[to] = combined<D>(kind, static_cast<D>(sums[to]), static_cast<D>(values[from]));
       });
  set_elements<D>(y, sums);
}

void eval_reduce(const OpCall& call, std::span<const HostTensor* const> x,
                 std::span<HostTensor> y) {
  if (!known_kind(call)) {
    const Combiner combiner(call.attributes);
    for (size_t i = 0; i < y.size(); ++i) {
      const std::vector<int64_t> none(static_cast<size_t>(y[i].shape().rank()), 0);
      copy_elements(*x[y.size() + i], 0, none, y[i], 0, y[i].shape().strides(), y[i].shape());
    }
    return walk(
        x[0]->shape(), x[0]->shape().strides(), result_strides(call, y[0].shape()),
        [&](int64_t from, int64_t to) { combiner.combine(y, to, x.first(y.size()), from); });
  }
  dispatch_domain(call.operands[0].dtype, [&]<typename D>() { reduce_elements<D>(call, x, y[0]); });
}

FactorRule reduce_factors(const OpCall& call, std::span<const TensorType>) {
  const std::optional<ReduceKind> kind = partial_kind(call);
  FactorRule rule;
  std::vector<int> operand, result;
  for (int d = 0; d < call.operands[0].rank(); ++d) {
    const bool reduced = is_reduced(call.attributes, d);
    operand.push_back(add_factor(rule, call.operands[0].shape[d],
                                 !reduced ? FactorKind::pass_through
                                 : kind   ? FactorKind::reduction
                                          : FactorKind::permutation,
                                 kind.value_or(ReduceKind::sum)));
    if (!reduced) result.push_back(operand.back());
  }
  rule.operands.assign(reduced_count(call), dims_of(operand));
  rule.results.assign(reduced_count(call), dims_of(result));
  add_starts(rule, call);  // initial values
  return rule;
}

std::vector<LinearSet> linear_reduce(const OpCall& call) {
  if (has_init(call)) return {};
  const ReduceKind kind = numeric_kind(*known_kind(call));
  return {{{0}, kind}};
}

// ---- On one device: what no all_reduce can combine ----------------------------------------------

// The reduced dims that are cut, and all their axes.
struct CutDims {
  std::vector<CutDim> dims;
  AxisList axes;
};
CutDims cut_dims(PartitionContext& c) {
  CutDims cut;
  for (int d = 0; d < c.call().operands[0].rank(); ++d) {
    const CutDim own = cut_dim(c, 0, d);
    if (!is_reduced(c.call().attributes, d) || !own.is_cut()) continue;
    cut.dims.push_back(own);
    cut.axes.insert(cut.axes.end(), own.axes.begin(), own.axes.end());
  }
  cut.axes = canonical(cut.axes);
  return cut;
}

// The values of all devices along `axes`, stacked in a new dim 0.
Value stacked(Builder& b, Value x, const AxisList& axes) {
  Shape shape{1};
  for (int64_t size : b.shape(x)) shape.push_back(size);
  return local_all_gather(b, reshape(b, x, shape), 0, axes);
}

Value partition_known(PartitionContext& c, ReduceKind kind) {
  Builder& b = c.builder();
  const CutDims cut = cut_dims(c);
  Value x = c.operand(0);
  const Value identity = constant(b, identity_of(kind, b.dtype(x)), {b.dtype(x), {}});
  for (const CutDim& dim : cut.dims) x = clear_padding(b, x, dim, identity);
  Value y = reduce(b, x, c.call().attributes.ints(Attr::dimensions), kind);
  y = kind == ReduceKind::product ? reduce(b, stacked(b, y, cut.axes), {0}, kind)
                                  : local_all_reduce(b, y, cut.axes, numeric_kind(kind));
  if (!has_init(c.call())) return y;
  return combine_values(b, kind, broadcast_scalar(b, c.operand(1), b.shape(y)), y);
}

std::vector<Value> partition_reduce(PartitionContext& c) {
  if (const auto kind = known_kind(c.call())) return {partition_known(c, *kind)};
  Builder& b = c.builder();
  const CutDims cut = cut_dims(c);
  const size_t count = reduced_count(c.call());
  const GraphRef region = with_validity(c.call().attributes.get<GraphRef>(Attr::combiner));
  const Shape shape = b.shape(c.operand(0));
  // Each shard by itself, with nothing to start from.
  Value valid = constant(b, 1, {DType::pred, shape});
  for (const CutDim& dim : cut.dims)
    valid = clear_padding(b, valid, dim, constant(b, 0, {DType::pred, {}}));
  std::vector<Value> values, nothing, inits;
  for (size_t i = 0; i < count; ++i) {
    values.push_back(c.operand(static_cast<int>(i)));
    inits.push_back(c.operand(static_cast<int>(count + i)));
    nothing.push_back(constant(b, 0, b.type(inits[i])));
  }
  values.push_back(valid);
  nothing.push_back(constant(b, 0, {DType::pred, {}}));
  inits.push_back(constant(b, 1, {DType::pred, {}}));
  std::vector<Value> parts =
      reduce(b, values, nothing, c.call().attributes.ints(Attr::dimensions), region);
  // Then those of all shards, in order, behind the initial values.
  for (Value& part : parts) part = stacked(b, part, cut.axes);
  std::vector<Value> results = reduce(b, parts, inits, {0}, region);
  results.pop_back();
  return results;
}

double reduce_bytes(const OpCall& call, std::span<const TensorType> results,
                    std::span<const AxisList> axes) {
  const FactorRule rule = reduce_factors(call, results);
  double shards = 1, parts = 1, bytes = 0;
  for (size_t f = 0; f < axes.size(); ++f)
    (rule.factors[f].kind == FactorKind::permutation ? parts : shards) *=
        static_cast<double>(size_of(axes[f]));
  for (const TensorType& result : results) bytes += static_cast<double>(result.bytes());
  return bytes / shards * (parts - 1);
}

double reduce_flops(const OpCall& call, std::span<const TensorType>) {
  return static_cast<double>(call.operands[0].elements());
}

std::vector<OpSample> reduce_samples() {
  auto sample = [](DType dtype, Shape x, Ints dims, ReduceKind kind, bool differentiable = false) {
    return OpSample{
        {{dtype, x}}, {{Attr::dimensions, dims}, {Attr::reduce_kind, kind}}, {}, differentiable};
  };
  return {sample(DType::f64, {4, 6}, {1}, ReduceKind::sum, true),
          sample(DType::f64, {2, 4, 6}, {0, 2}, ReduceKind::sum, true),
          sample(DType::f64, {4}, {0}, ReduceKind::sum, true),
          sample(DType::f64, {4, 6}, {0}, ReduceKind::max, true),
          sample(DType::f64, {4, 6}, {1}, ReduceKind::min, true),
          sample(DType::f64, {4, 6}, {1}, ReduceKind::product, true),
          sample(DType::f64, {2, 3, 4}, {0, 2}, ReduceKind::product, true),
          sample(DType::s32, {4, 6}, {0}, ReduceKind::max),
          sample(DType::s32, {4, 6}, {0, 1}, ReduceKind::sum),
          sample(DType::bf16, {4, 6}, {0}, ReduceKind::sum),
          sample(DType::c64, {4, 6}, {1}, ReduceKind::sum),
          sample(DType::pred, {4, 6}, {0}, ReduceKind::logical_and),
          sample(DType::pred, {4, 6}, {1}, ReduceKind::logical_or)};
}

std::vector<OpSample> all_reduce_samples() {
  std::vector<OpSample> samples = reduce_samples();
  for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::product}) {
    samples.push_back({{{DType::f64, {4, 6}}, {DType::f64, {}}},
                       {{Attr::dimensions, Ints{1}}, {Attr::reduce_kind, kind}},
                       {{-1, 1}, {2, 3}},
                       kind != ReduceKind::max});
    samples.push_back(
        {{{DType::f64, {4, 6}}, {DType::f64, {}}},
         {{Attr::dimensions, Ints{0}}, {Attr::combiner, combiner_of(kind, DType::f64)}},
         {},
         false});
  }
  for (bool largest : {true, false}) {
    samples.push_back(
        {{{DType::f64, {4, 6}}, {DType::s32, {4, 6}}, {DType::f64, {}}, {DType::s32, {}}},
         {{Attr::dimensions, Ints{1}}, {Attr::combiner, extreme_region(DType::f64, largest)}},
         {{-3, 3}, {0, 50}, {largest ? -1.0 : 1.0, largest ? -1.0 : 1.0}, {99, 99}}});
    samples.push_back(
        {{{DType::s32, {4, 6}}, {DType::s32, {4, 6}}, {DType::s32, {}}, {DType::s32, {}}},
         {{Attr::dimensions, Ints{1}}, {Attr::combiner, extreme_region(DType::s32, largest)}},
         {{-3, 3}, {0, 50}, {largest ? -9.0 : 9.0, largest ? -9.0 : 9.0}, {99, 99}},
         false});
  }
  return samples;
}

// A kept dim: sums of zeros, products of ones, extremes of what is the same everywhere.
std::vector<PadContents> transfer_reduce(const PadFacts& facts) {
  const std::optional<ReduceKind> kind = partial_kind(facts.call);
  if (!kind) return transfer_constant(facts, PadContent::unknown);
  // On pred that of the kind as it is written: zero or one.
  const PadContent identity = identity_content(*known_kind(facts.call));
  std::vector<PadContents> contents = transfer_by_factors(facts);
  const bool is_extreme = kind == ReduceKind::max || kind == ReduceKind::min;
  for (PadContent& content : contents[0])
    if (content != identity &&
        (!is_extreme || content == PadContent::copy_of_valid || facts.results[0].rank() == 0))
      content = PadContent::unknown;
  return contents;
}

// What `partition` does, it masks itself.
std::vector<PadNeed> reduce_needs(const PadFacts& facts) {
  std::vector<PadNeed> needs;
  if (!partial_kind(facts.call)) return needs;
  for (int d = 0; d < facts.call.operands[0].rank(); ++d)
    if (is_reduced(facts.call.attributes, d))
      needs.push_back({0, d, identity_content(*known_kind(facts.call))});
  return needs;
}

}  // namespace

const OpDef kReduce{.name = "reduce",
                    .attributes = {Attr::dimensions},
                    .optional_attributes = {Attr::reduce_kind, Attr::combiner},
                    .infer = infer_reduce,
                    .eval = eval_reduce,
                    .grad = grad_reduce,
                    .factors = reduce_factors,
                    .linear = linear_reduce,
                    .partition = partition_reduce,
                    .exchange_bytes = reduce_bytes,
                    .pad_transfer = transfer_reduce,
                    .pad_needs = reduce_needs,
                    .flops = reduce_flops,
                    .samples = all_reduce_samples};

Value reduce(Builder& b, Value x, Ints dimensions, ReduceKind kind) {
  return b.emit(kReduce, {x},
                {{Attr::dimensions, std::move(dimensions)}, {Attr::reduce_kind, kind}});
}
Value reduce_all(Builder& b, Value x, ReduceKind kind) {
  Ints all(static_cast<size_t>(b.shape(x).rank()));
  std::iota(all.begin(), all.end(), 0);
  return reduce(b, x, all, kind);
}

}  // namespace tessera::ops
