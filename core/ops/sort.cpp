#include "core/ops/sort.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "core/ir/interpreter.h"
#include "core/ir/padding.h"
#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/float_order.h"
#include "core/ops/gather.h"
#include "core/ops/partition_support.h"
#include "core/ops/sort_merge.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

int dimension_of(const OpCall& call) {
  return static_cast<int>(call.attributes.integer(Attr::dimension));
}

// ---- Keys ---------------------------------------------------------------------------------------

// NaN of either sign above infinity; else the total order, -0 below +0, as XLA has it.
int64_t top_rank(double value) {
  return value != value ? std::numeric_limits<int64_t>::max() : total_rank(value);
}

std::vector<int64_t> ranks_of(const HostTensor& x, int64_t (*rank_of)(double)) {
  std::vector<int64_t> ranks(static_cast<size_t>(x.elements()));
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    if (is_float(x.dtype()))
      ranks[i] = rank_of(x.get_real(index));
    else if (x.dtype() == DType::u64)
      ranks[i] =
          static_cast<int64_t>(static_cast<uint64_t>(x.get_int(index)) ^ (uint64_t{1} << 63));
    else
      ranks[i] = x.get_int(index);
  }
  return ranks;
}

// Calls body(first, step) for every line along `dim`.
template <typename Body>
void for_each_line(const Shape& shape, int dim, Body body) {
  const std::vector<int64_t> strides = shape.strides();
  Shape rest = shape;
  rest[dim] = 1;
  walk(rest, strides, strides,
       [&](int64_t first, int64_t) { body(first, strides[static_cast<size_t>(dim)]); });
}

void copy_one(const HostTensor& from, int64_t source, HostTensor& to, int64_t target) {
  const auto size = static_cast<size_t>(size_of(from.dtype()));
  std::memcpy(to.bytes().data() + static_cast<size_t>(target) * size,
              from.bytes().data() + static_cast<size_t>(source) * size, size);
}

// ---- sort ---------------------------------------------------------------------------------------

std::vector<TensorType> infer_sort(const OpCall& call) {
  require(!call.operands.empty(), "sort: takes at least one operand");
  const TensorType& first = call.operands[0];
  std::vector<DType> both;
  for (const TensorType& x : call.operands) {
    require(x.shape == first.shape, "sort: operands must have one shape, got ", first, " and ", x);
    both.insert(both.end(), 2, x.dtype);
  }
  const int64_t dimension = call.attributes.integer(Attr::dimension);
  require(dimension >= 0 && dimension < first.rank(), "sort: dimension ", dimension, " of ", first);
  require(call.attributes.has(Attr::combiner) != call.attributes.has(Attr::direction),
          "sort: takes either direction or combiner");
  if (call.attributes.has(Attr::combiner)) {
    check_region("sort", *call.attributes.get<GraphRef>(Attr::combiner), both, {DType::pred});
  } else {
    const auto direction = call.attributes.get<CompareDirection>(Attr::direction);
    require(direction == CompareDirection::lt || direction == CompareDirection::gt,
            "sort: direction is lt or gt, not ", name_of(direction));
    require(first.dtype != DType::c64, "sort: ", first, " has no order");
  }
  return {call.operands.begin(), call.operands.end()};
}

// Whether element `a` comes before element `b` (row-major indices of the operands).
using Before = std::function<bool(int64_t a, int64_t b)>;

Before region_before(const Graph& region, std::span<const HostTensor* const> x) {
  return [&region, x](int64_t a, int64_t b) {
    std::vector<HostTensor> scalars;
    for (const HostTensor* operand : x)
      for (int64_t index : {a, b}) {
        scalars.emplace_back(TensorType{operand->dtype(), {}});
        copy_one(*operand, index, scalars.back(), 0);
      }
    return interpret(region, scalars)[0].get_int(0) != 0;
  };
}

// nullptr where the order is not by one operand.
Before key_before(const Comparison& comparison, std::span<const HostTensor* const> x) {
  if (!is_strict(comparison)) return nullptr;
  const HostTensor& key = *x[static_cast<size_t>(comparison.key)];
  const bool is_less = comparison.direction == CompareDirection::lt;
  if (is_float(key.dtype()) && !comparison.total_order) {
    return [values = reals_of(key), is_less](int64_t a, int64_t b) {
      return is_less ? values[a] < values[b] : values[a] > values[b];
    };
  }
  return [ranks = ranks_of(key, total_rank), is_less](int64_t a, int64_t b) {
    return is_less ? ranks[a] < ranks[b] : ranks[a] > ranks[b];
  };
}

Before before_of(const OpCall& call, std::span<const HostTensor* const> x) {
  if (const auto comparison = sort_comparison(call.attributes))
    if (Before before = key_before(*comparison, x)) return before;
  const Graph& region = *call.attributes.get<GraphRef>(Attr::combiner);
  if (const auto last = as_padding_last(region))
    if (Before before = key_before(last->comparison, x)) {
      const HostTensor& padding = *x[static_cast<size_t>(last->padding)];
      return [&padding, before](int64_t a, int64_t b) {
        return padding.get_int(a) == 0 && (padding.get_int(b) != 0 || before(a, b));
      };
    }
  return region_before(region, x);
}

void eval_sort(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const Before before = before_of(call, x);
  const int dim = dimension_of(call);
  std::vector<int64_t> order(static_cast<size_t>(x[0]->shape()[dim]));
  for_each_line(x[0]->shape(), dim, [&](int64_t first, int64_t step) {
    for (size_t i = 0; i < order.size(); ++i) order[i] = first + static_cast<int64_t>(i) * step;
    std::stable_sort(order.begin(), order.end(), before);
    for (size_t r = 0; r < y.size(); ++r)
      for (size_t i = 0; i < order.size(); ++i)
        copy_one(*x[r], order[i], y[r], first + static_cast<int64_t>(i) * step);
  });
}

// The cotangents go back along the permutation, which is found by sorting the positions alike.
std::vector<Value> grad_sort(GradContext& c) {
  Builder& b = c.builder();
  const Attributes attributes = c.attributes();
  const auto comparison = sort_comparison(attributes);
  require(comparison && (comparison->direction == CompareDirection::lt ||
                         comparison->direction == CompareDirection::gt),
          "sort: has a gradient where it compares one operand by lt or gt, not by ",
          attributes.get_or<GraphRef>(Attr::combiner, std::make_shared<Graph>())->name);
  const int64_t dimension = attributes.integer(Attr::dimension);
  const Value positions = iota(b, {DType::s32, c.operand_type(0).shape}, dimension);
  const Value from =
      sort(b, {c.operand(comparison->key), positions}, dimension, comparison->direction)[1];
  const Value to = sort(b, {from, positions}, dimension)[1];
  std::vector<Value> cotangents(static_cast<size_t>(c.operand_count()));
  for (int i = 0; i < c.operand_count(); ++i)
    if (c.needs_gradient(i) && is_float(c.operand_type(i).dtype))
      cotangents[static_cast<size_t>(i)] = take_along(b, c.cotangent(i), to, dimension);
  return cotangents;
}

FactorRule sort_factors(const OpCall& call, std::span<const TensorType>) {
  return permuted_factors(call, call.operands.size(), {dimension_of(call)});
}

// Bytes that an all_gather of one operand over the axes of `factor` sends per device.
double gather_bytes(const TensorType& type, std::span<const AxisList> axes, size_t factor) {
  double shards = 1;
  for (size_t f = 0; f < axes.size(); ++f)
    if (f != factor) shards *= static_cast<double>(size_of(axes[f]));
  const auto parts = static_cast<double>(size_of(axes[factor]));
  return static_cast<double>(type.bytes()) / shards * (parts - 1) / parts;
}

double sort_bytes(const OpCall& call, std::span<const TensorType> results,
                  std::span<const AxisList> axes) {
  const FactorRule rule = sort_factors(call, results);
  double bytes = 0;
  for (size_t f = 0; f < axes.size(); ++f)
    if (rule.factors[f].kind == FactorKind::permutation && !axes[f].empty())
      for (const TensorType& x : call.operands) {
        double shards = 1;
        for (const AxisList& list : axes) shards *= static_cast<double>(size_of(list));
        bytes += static_cast<double>(x.bytes()) / shards * sort_exchanges(axes[f]);
      }
  return bytes;
}

double sort_flops(const OpCall& call, std::span<const TensorType>) {
  const auto n = static_cast<double>(call.operands[0].elements());
  return n * std::bit_width(static_cast<uint64_t>(call.operands[0].shape[dimension_of(call)]));
}

std::vector<OpSample> sort_samples() {
  auto sample = [](std::vector<DType> dtypes, Shape shape, int64_t dimension,
                   CompareDirection direction, bool differentiable = false) {
    OpSample s{
        {},
        {{Attr::dimension, dimension}, {Attr::is_stable, true}, {Attr::direction, direction}},
        {},
        differentiable};
    for (DType dtype : dtypes) s.operands.push_back({dtype, shape});
    return s;
  };
  std::vector<OpSample> samples = {
      sample({DType::f64}, {4, 6}, 1, CompareDirection::lt, true),
      sample({DType::f64, DType::f64}, {6, 4}, 0, CompareDirection::gt, true),
      sample({DType::s32, DType::bf16}, {4, 6}, 1, CompareDirection::lt),
      sample({DType::f64, DType::s32}, {8}, 0, CompareDirection::gt)};
  OpSample region{
      {{DType::s32, {4, 6}}, {DType::f64, {4, 6}}},
      {{Attr::dimension, int64_t{1}},
       {Attr::is_stable, true},
       {Attr::combiner, comparator_of({DType::s32, DType::f64}, CompareDirection::gt, 1)}},
      {},
      true};
  samples.push_back(region);
  return samples;
}

// ---- top_k --------------------------------------------------------------------------------------

std::vector<TensorType> infer_top_k(const OpCall& call) {
  check_operand_count("top_k", call, 1);
  const TensorType& x = call.operands[0];
  const int64_t k = call.attributes.integer(Attr::k);
  require(x.rank() >= 1 && x.dtype != DType::c64 && k >= 0 && k <= last_dim(x.shape), "top_k: ", k,
          " of the last dim of ", x);
  Shape shape = without_last(x.shape);
  shape.push_back(k);
  return {{x.dtype, shape}, {DType::s32, shape}};
}

bool is_largest(const Attributes& attributes) {
  return attributes.get_or<bool>(Attr::largest, true);
}

void eval_top_k(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const std::vector<int64_t> ranks = ranks_of(*x[0], top_rank);
  const bool largest = is_largest(call.attributes);
  const int64_t n = last_dim(x[0]->shape()), k = call.attributes.integer(Attr::k);
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t line = 0; n > 0 && line < x[0]->elements() / n; ++line) {
    std::iota(order.begin(), order.end(), line * n);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return largest ? ranks[a] > ranks[b] : ranks[a] < ranks[b];
    });
    for (int64_t i = 0; i < k; ++i) {
      copy_one(*x[0], order[static_cast<size_t>(i)], y[0], line * k + i);
      y[1].set_int(line * k + i, order[static_cast<size_t>(i)] - line * n);
    }
  }
}

// The dims of a gather or scatter along `dimension` with all others side by side.
GatherDims lines_along(int rank, int64_t dimension) {
  GatherDims dims{{}, {dimension}, {dimension}, rank};
  for (int64_t d = 0; d < rank; ++d)
    if (d != dimension) dims.operand_batching_dims.push_back(d);
  dims.start_indices_batching_dims = dims.operand_batching_dims;
  return dims;
}

std::vector<Value> grad_top_k(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  Builder& b = c.builder();
  const TensorType& x = c.operand_type(0);
  const Value zeros = constant(b, 0, x);
  return {scatter(b, zeros, c.result(1), c.cotangent(0), lines_along(x.rank(), x.rank() - 1))};
}

FactorRule top_k_factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  const int last = call.operands[0].rank() - 1;
  std::vector<int> dims = add_factors(rule, without_last(call.operands[0].shape));
  std::vector<int> result = dims;
  dims.push_back(add_factor(rule, call.operands[0].shape[last], FactorKind::permutation));
  result.push_back(add_factor(rule, results[0].shape[last], FactorKind::need_replication));
  rule.operands = {dims_of(dims)};
  rule.results = {dims_of(result), dims_of(result)};
  return rule;
}

// The best k of every shard, gathered; the best k of these. Ties stay with the lower device, which
// has the lower indices.
std::vector<Value> partition_top_k(PartitionContext& c) {
  Builder& b = c.builder();
  const int last = c.call().operands[0].rank() - 1;
  const CutDim cut = cut_dim(c, 0, last);
  const int64_t k = c.call().attributes.integer(Attr::k), own_k = std::min(k, cut.shard);
  const bool largest = is_largest(c.call().attributes);
  const DType dtype = c.call().operands[0].dtype;
  // What comes last: among equals, padding has the higher indices anyway.
  const double worst = largest           ? identity_of(ReduceKind::max, dtype)
                       : is_float(dtype) ? std::numeric_limits<double>::quiet_NaN()
                                         : identity_of(ReduceKind::min, dtype);
  const Value x = clear_padding(b, c.operand(0), cut, constant(b, worst, {dtype, {}}));
  const TopK own = top_k(b, x, own_k, largest);
  const Value start = convert(b, local_start(b, cut), DType::s32);
  const Value indices = add(b, own.indices, broadcast_scalar(b, start, b.shape(own.indices)));
  const TopK best = top_k(b, local_all_gather(b, own.values, last, cut.axes), k, largest);
  const Value all_indices = local_all_gather(b, indices, last, cut.axes);
  return {best.values, take_along(b, all_indices, best.indices, last)};
}

double top_k_bytes(const OpCall& call, std::span<const TensorType> results,
                   std::span<const AxisList> axes) {
  const FactorRule rule = top_k_factors(call, results);
  double bytes = 0;
  for (size_t f = 0; f < axes.size(); ++f)
    if (rule.factors[f].kind == FactorKind::permutation && !axes[f].empty())
      for (const TensorType& result : results)  // k from each other device
        bytes += gather_bytes(result, axes, f) * static_cast<double>(size_of(axes[f]));
  return bytes;
}

double top_k_flops(const OpCall& call, std::span<const TensorType>) {
  return static_cast<double>(call.operands[0].elements());
}

std::vector<OpSample> top_k_samples() {
  auto sample = [](DType dtype, Shape x, int64_t k, bool largest) {
    return OpSample{
        {{dtype, x}}, {{Attr::k, k}, {Attr::largest, largest}}, {{-3, 3}}, dtype == DType::f64};
  };
  return {sample(DType::f64, {4, 6}, 2, true),  sample(DType::f64, {4, 6}, 5, false),
          sample(DType::f64, {8}, 1, true),     sample(DType::s32, {4, 8}, 3, true),
          sample(DType::s32, {4, 8}, 4, false), sample(DType::bf16, {2, 2, 4}, 4, true)};
}

}  // namespace

const OpDef kSort{.name = "sort",
                  .attributes = {Attr::dimension},
                  .optional_attributes = {Attr::is_stable, Attr::direction, Attr::combiner},
                  .infer = infer_sort,
                  .eval = eval_sort,
                  .grad = grad_sort,
                  .factors = sort_factors,
                  .partition = partition_sort,
                  .exchange_bytes = sort_bytes,
                  .pad_needs = no_pad_needs,
                  .flops = sort_flops,
                  .samples = sort_samples};
const OpDef kTopK{.name = "top_k",
                  .attributes = {Attr::k},
                  .optional_attributes = {Attr::largest},
                  .infer = infer_top_k,
                  .eval = eval_top_k,
                  .grad = grad_top_k,
                  .factors = top_k_factors,
                  .partition = partition_top_k,
                  .exchange_bytes = top_k_bytes,
                  .pad_needs = no_pad_needs,
                  .flops = top_k_flops,
                  .samples = top_k_samples};

std::vector<Value> sort(Builder& b, std::vector<Value> xs, int64_t dimension,
                        CompareDirection direction) {
  const size_t count = xs.size();
  const Value first =
      b.emit(kSort, std::move(xs),
             {{Attr::dimension, dimension}, {Attr::is_stable, true}, {Attr::direction, direction}});
  std::vector<Value> results;
  for (size_t i = 0; i < count; ++i) results.push_back({first.instruction, static_cast<int>(i)});
  return results;
}

TopK top_k(Builder& b, Value x, int64_t k, bool largest) {
  const Value values = b.emit(kTopK, {x}, {{Attr::k, k}, {Attr::largest, largest}});
  return {values, {values.instruction, 1}};
}

Value take_along(Builder& b, Value x, Value indices, int64_t dimension) {
  const int rank = b.shape(x).rank();
  return gather(b, x, indices, lines_along(rank, dimension), Ints(static_cast<size_t>(rank), 1));
}

}  // namespace tessera::ops
