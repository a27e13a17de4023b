// reduce: combines the elements along some dims.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

ReduceKind kind_of(const OpCall& call) {
  return call.attributes.get<ReduceKind>(Attr::reduce_kind);
}

bool is_reduced(const Attributes& attributes, int dim) {
  const Ints& dims = attributes.ints(Attr::dimensions);
  return std::find(dims.begin(), dims.end(), dim) != dims.end();
}

bool is_logical(ReduceKind kind) {
  return kind == ReduceKind::logical_and || kind == ReduceKind::logical_or;
}

std::vector<TensorType> infer_reduce(const OpCall& call) {
  check_operand_count("reduce", call, 1);
  const TensorType& x = call.operands[0];
  const Ints& dims = call.attributes.ints(Attr::dimensions);
  for (size_t i = 0; i < dims.size(); ++i)
    require(
        dims[i] >= 0 && dims[i] < x.rank() && std::count(dims.begin(), dims.end(), dims[i]) == 1,
        "reduce: dimensions [", join(dims, ","), "] of ", x);
  const ReduceKind kind = kind_of(call);
  const bool fits = x.dtype == DType::pred  ? is_logical(kind)
                    : x.dtype == DType::c64 ? kind == ReduceKind::sum || kind == ReduceKind::product
                                            : !is_logical(kind);
  require(fits, "reduce: ", name_of(kind), " is not defined for ", x);
  Shape shape;
  for (int d = 0; d < x.rank(); ++d)
    if (!is_reduced(call.attributes, d)) shape.push_back(x.shape[d]);
  return {{x.dtype, shape}};
}

template <typename D>
D combine(ReduceKind kind, D a, D b) {
  switch (kind) {
    case ReduceKind::sum:
      return a + b;
    case ReduceKind::product:
      return a * b;
    case ReduceKind::logical_and:
      return a != D(0) && b != D(0) ? D(1) : D(0);
    case ReduceKind::logical_or:
      return a != D(0) || b != D(0) ? D(1) : D(0);
    default:
      break;
  }
  if constexpr (!std::is_same_v<D, std::complex<double>>) {
    if (a != a || b != b) return a + b;  // NaN stays
    return (kind == ReduceKind::max) == (a > b) ? a : b;
  }
  return a;
}

template <typename D>
void reduce_elements(const OpCall& call, const HostTensor& x, HostTensor& y) {
  const ReduceKind kind = kind_of(call);
  const Elements<D> values = elements_of<D>(x);
  // Through the result's dtype, where the lowest integer is exact.
  Elements<D> sums = elements_of<D>(HostTensor::filled(y.type(), identity_of(kind, y.dtype())));
  std::vector<int64_t> strides;
  const std::vector<int64_t> kept = y.shape().strides();
  for (int d = 0, k = 0; d < x.shape().rank(); ++d)
    strides.push_back(is_reduced(call.attributes, d) ? 0 : kept[k++]);
  walk(x.shape(), x.shape().strides(), strides,
       [&](int64_t from, int64_t to) { sums[to] = combine<D>(kind, sums[to], values[from]); });
  set_elements<D>(y, sums);
}

void eval_reduce(const OpCall& call, std::span<const HostTensor* const> x,
                 std::span<HostTensor> y) {
  const DType dtype = call.operands[0].dtype;
  if (is_float(dtype))
    reduce_elements<double>(call, *x[0], y[0]);
  else if (dtype == DType::c64)
    reduce_elements<std::complex<double>>(call, *x[0], y[0]);
  else if (is_signed_integer(dtype))
    reduce_elements<int64_t>(call, *x[0], y[0]);
  else
    reduce_elements<uint64_t>(call, *x[0], y[0]);
}

// `value` of the reduced shape, repeated to that of the operand.
Value spread(Builder& b, Value value, const Attributes& attributes, const Shape& shape) {
  Ints dims;
  for (int d = 0; d < shape.rank(); ++d)
    if (!is_reduced(attributes, d)) dims.push_back(d);
  return dims.size() == static_cast<size_t>(shape.rank()) ? value
                                                          : broadcast_in_dim(b, value, shape, dims);
}

std::vector<Value> grad_reduce(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  Builder& b = c.builder();
  const Attributes attributes = c.attributes();
  const Shape shape = c.operand_type(0).shape;
  const auto kind = attributes.get<ReduceKind>(Attr::reduce_kind);
  if (kind == ReduceKind::sum) return {spread(b, c.cotangent(0), attributes, shape)};
  require(kind == ReduceKind::max || kind == ReduceKind::min, "reduce: ", name_of(kind),
          " has no gradient; use sum, max or min");
  // Elements that share the extreme share the cotangent.
  const Value x = c.operand(0);
  const Value is_extreme =
      compare(b, x, spread(b, c.result(0), attributes, shape), CompareDirection::eq);
  const Value mask = convert(b, is_extreme, b.dtype(x));
  const Value count = reduce(b, mask, attributes.ints(Attr::dimensions));
  return {multiply(b, mask, spread(b, divide(b, c.cotangent(0), count), attributes, shape))};
}

FactorRule reduce_factors(const OpCall& call, std::span<const TensorType>) {
  FactorRule rule;
  std::vector<int> operand, result;
  for (int d = 0; d < call.operands[0].rank(); ++d) {
    const bool reduced = is_reduced(call.attributes, d);
    operand.push_back(add_factor(rule, call.operands[0].shape[d],
                                 reduced ? FactorKind::reduction : FactorKind::pass_through,
                                 kind_of(call)));
    if (!reduced) result.push_back(operand.back());
  }
  rule.operands = {dims_of(operand)};
  rule.results = {dims_of(result)};
  return rule;
}

std::vector<LinearSet> linear_reduce(const OpCall& call) { return {{{0}, kind_of(call)}}; }

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
          sample(DType::f64, {4, 6}, {1}, ReduceKind::product),
          sample(DType::s32, {4, 6}, {0}, ReduceKind::max),
          sample(DType::s32, {4, 6}, {0, 1}, ReduceKind::sum),
          sample(DType::bf16, {4, 6}, {0}, ReduceKind::sum),
          sample(DType::c64, {4, 6}, {1}, ReduceKind::sum),
          sample(DType::pred, {4, 6}, {0}, ReduceKind::logical_and),
          sample(DType::pred, {4, 6}, {1}, ReduceKind::logical_or)};
}

// A kept dim: sums of zeros, products of ones, extremes of what is the same everywhere.
std::vector<PadContents> transfer_reduce(const PadFacts& facts) {
  const PadContent identity = identity_content(kind_of(facts.call));
  std::vector<PadContents> contents = transfer_by_factors(facts);
  const bool is_extreme =
      kind_of(facts.call) == ReduceKind::max || kind_of(facts.call) == ReduceKind::min;
  for (PadContent& content : contents[0])
    if (content != identity &&
        (!is_extreme || content == PadContent::copy_of_valid || facts.results[0].rank() == 0))
      content = PadContent::unknown;
  return contents;
}

}  // namespace

const OpDef kReduce{.name = "reduce",
                    .attributes = {Attr::dimensions, Attr::reduce_kind},
                    .infer = infer_reduce,
                    .eval = eval_reduce,
                    .grad = grad_reduce,
                    .factors = reduce_factors,
                    .linear = linear_reduce,
                    .pad_transfer = transfer_reduce,
                    .flops = reduce_flops,
                    .samples = reduce_samples};

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
