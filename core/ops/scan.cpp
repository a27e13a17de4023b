#include "core/ops/scan.h"

#include <cmath>
#include <limits>

#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/scan_partition.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {

// ---- What scans on shards share -----------------------------------------------------------------

Value scan_shard(PartitionContext& c, int operand, int dim, CutDim& cut) {
  cut = cut_dim(c, operand, dim);
  const int64_t length = c.local_result_type(0).shape[dim];
  if (cut.shard == length) return c.operand(operand);
  const Value x = halo_window(c.builder(), c.operand(operand), cut, {{length, 0}, length},
                              {HaloFill::Kind::anything, {}});
  cut.shard = length;
  return x;
}

Value last_row(Builder& b, Value x, int dim, bool is_reverse) {
  const int64_t at = is_reverse ? 0 : b.shape(x)[dim] - 1;
  return slice_dim(b, x, dim, at, at + 1);
}

Value from_before(Builder& b, Value x, const AxisList& axes, int64_t places, bool is_reverse,
                  double identity) {
  const Value made = shift(b, x, axes, is_reverse ? -places : places);
  if (identity == 0) return made;  // what arrives where nobody sends
  const int64_t last = size_of(axes) - 1;
  const Value has_sender =
      is_reverse
          ? compare(b, axis_index(b, axes), scalar_s64(b, last - places), CompareDirection::le)
          : compare(b, axis_index(b, axes), scalar_s64(b, places), CompareDirection::ge);
  const Shape shape = b.shape(x);
  return select(b, broadcast_scalar(b, has_sender, shape), made, constant_like(b, x, identity));
}

Value repeat_row(Builder& b, Value row, const Shape& shape) {
  Ints dims(static_cast<size_t>(shape.rank()));
  for (size_t d = 0; d < dims.size(); ++d) dims[d] = static_cast<int64_t>(d);
  return broadcast_in_dim(b, row, shape, dims);
}

double prefix_bytes(const TensorType& x, const CutShapes& shapes, const TensorFactors& factors,
                    int dim, int64_t rows) {
  const CutDim cut = shapes.cut(x.shape, factors, dim);
  int64_t sends = 1;
  for (int64_t places = 1; places < cut.parts(); places *= 2) ++sends;
  const Shape local = shapes.local(x.shape, factors);
  return static_cast<double>(sends * rows * local.elements() / cut.shard * size_of(x.dtype));
}

Value next_along(Builder& b, Value x, int64_t dimension, bool is_reverse) {
  Ints low(static_cast<size_t>(b.shape(x).rank()), 0), high = low;
  low[static_cast<size_t>(dimension)] = is_reverse ? 1 : -1;
  high[static_cast<size_t>(dimension)] = is_reverse ? -1 : 1;
  return pad(b, x, constant(b, 0.0, {b.dtype(x), {}}), low, high);
}

namespace {

// ---- The combiners ------------------------------------------------------------------------------

// nullopt: log of the sum of exponentials.
std::optional<ReduceKind> kind_of(const Attributes& attributes) {
  if (!attributes.has(Attr::reduce_kind)) return std::nullopt;
  return attributes.get<ReduceKind>(Attr::reduce_kind);
}
double identity_of_scan(std::optional<ReduceKind> kind, DType dtype) {
  return kind ? identity_of(*kind, dtype) : -std::numeric_limits<double>::infinity();
}

// The combiner of the kind, or of logarithms.
template <typename D>
D combined_scan(std::optional<ReduceKind> kind, D a, D b) {
  if constexpr (std::is_same_v<D, double>) {
    if (!kind) {
      const double high = std::max(a, b), low = std::min(a, b);
      return std::isinf(high) && high < 0 ? high : high + std::log1p(std::exp(low - high));
    }
  }
  return combined<D>(*kind, a, b);
}

Value combine_scans(Builder& b, std::optional<ReduceKind> kind, Value x, Value y) {
  if (kind) return combine_values(b, *kind, x, y);
  const Value high = maximum(b, x, y);
  const Value lowest = constant_like(b, high, -std::numeric_limits<double>::infinity());
  // Nothing but -infinity: take 0 from both, which leaves -infinity.
  const Value top =
      select(b, compare(b, high, lowest, CompareDirection::eq), zeros_like(b, high), high);
  const Value sum =
      add(b, exponential(b, subtract(b, x, top)), exponential(b, subtract(b, y, top)));
  return add(b, top, log(b, sum));
}

// ---- The op -------------------------------------------------------------------------------------

int dim_of(const Attributes& attributes) {
  return static_cast<int>(attributes.integer(Attr::dimension));
}

template <const OpDef& kOp>
std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count(kOp.name, call, 1);
  const TensorType& x = call.operands[0];
  const int dim = dim_of(call.attributes);
  require(dim >= 0 && dim < x.rank(), kOp.name, ": dimension ", dim, " of ", x);
  const std::optional<ReduceKind> kind = kind_of(call.attributes);
  if (kind)
    check_kind(kOp.name, *kind, x);
  else
    check_float(kOp.name, call, 0);
  return {x};
}

// Calls body(first element, step) for every line along `dim`, in the order of the scan.
template <typename Body>
void for_each_line(const Shape& shape, int dim, bool is_reverse, Body body) {
  if (shape.elements() == 0) return;
  const std::vector<int64_t> strides = shape.strides();
  Shape lines = shape;
  lines[dim] = 1;
  const int64_t step = is_reverse ? -strides[dim] : strides[dim];
  const int64_t first = is_reverse ? (shape[dim] - 1) * strides[dim] : 0;
  walk(lines, strides, strides, [&](int64_t at, int64_t) { body(at + first, step); });
}

template <typename D>
void scan_elements(const OpCall& call, const HostTensor& x, HostTensor& y) {
  const std::optional<ReduceKind> kind = kind_of(call.attributes);
  const bool is_exclusive = call.attributes.flag(Attr::is_exclusive);
  const int dim = dim_of(call.attributes);
  Elements<D> values = elements_of<D>(x);
  const D identity =
      elements_of<D>(HostTensor::filled({x.dtype(), {}}, identity_of_scan(kind, x.dtype())))[0];
  for_each_line(x.shape(), dim, call.attributes.flag(Attr::is_reverse),
                [&](int64_t at, int64_t step) {
                  D sum = identity;
                  for (int64_t i = 0; i < x.shape()[dim]; ++i, at += step) {
                    const D next = combined_scan<D>(kind, sum, values[at]);
                    values[at] = is_exclusive ? sum : next;
                    sum = next;
                  }
                });
  set_elements<D>(y, values);
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  dispatch_domain(call.operands[0].dtype,
                  [&]<typename D>() { scan_elements<D>(call, *x[0], y[0]); });
}

// ---- gradient -----------------------------------------------------------------------------------

// Everything but a sum is a recurrence from the last element to the first. With g[i] the cotangent
// of all that follows from the state at i:  g[i] = dy[i] + (d state[i+1] / d state[i]) g[i+1].
// An exclusive scan is the inclusive one a place later.
template <const OpDef& kOp>
std::vector<Value> grad(GradContext& c) {
  if (!c.needs_gradient(0)) return {Value{}};
  Builder& b = c.builder();
  const Attributes attributes = c.attributes();
  const std::optional<ReduceKind> kind = kind_of(attributes);
  const int64_t dim = attributes.integer(Attr::dimension);
  const bool is_reverse = attributes.flag(Attr::is_reverse);
  const bool is_exclusive = attributes.flag(Attr::is_exclusive);
  Value dy = c.cotangent(0);
  if (kind == ReduceKind::sum)
    return {scan(b, dy, dim, ReduceKind::sum, {!is_reverse, is_exclusive})};
  require(
      !kind || *kind == ReduceKind::product || *kind == ReduceKind::max || *kind == ReduceKind::min,
      kOp.name, ": ", name_of(kind.value_or(ReduceKind::sum)), " of ", c.operand_type(0),
      " has no gradient");
  if (is_exclusive) dy = next_along(b, dy, dim, is_reverse);
  const Value x = c.operand(0);
  const auto recurrence = [&](Value keep) {
    return linear_recurrence(b, next_along(b, keep, dim, is_reverse), dy, dim, !is_reverse);
  };
  if (kind == ReduceKind::product)
    return {multiply(b, recurrence(x), scan(b, x, dim, *kind, {is_reverse, true}))};
  if (kind) {
    const Value before = scan(b, x, dim, *kind, {is_reverse, true});
    const Value is_new =
        convert(b,
                compare(b, x, before,
                        *kind == ReduceKind::max ? CompareDirection::gt : CompareDirection::lt),
                b.dtype(x));
    const Value keep = subtract(b, constant_like(b, x, 1.0), is_new);
    return {multiply(b, recurrence(keep), is_new)};
  }
  const Value y = is_exclusive ? log_sum_exp_scan(b, x, dim, {is_reverse, false}) : c.result(0);
  // exp(y[i] - y[i+1]) at place i + 1.
  const Value before = next_along(b, y, dim, !is_reverse);
  const Value keep = exponential(b, minimum(b, subtract(b, before, y), zeros_like(b, y)));
  return {multiply(b, recurrence(keep), exponential(b, subtract(b, x, y)))};
}

// ---- sharding -----------------------------------------------------------------------------------

FactorRule factors(const OpCall& call, std::span<const TensorType>) {
  return permuted_factors(call, 1, {dim_of(call.attributes)});
}

template <const OpDef& kOp>
std::vector<Value> partition(PartitionContext& c) {
  Builder& b = c.builder();
  const Attributes attributes = c.call().attributes;
  const std::optional<ReduceKind> kind = kind_of(attributes);
  const int dim = dim_of(attributes);
  const bool is_reverse = attributes.flag(Attr::is_reverse);
  CutDim cut;
  Value x = scan_shard(c, 0, dim, cut);
  const DType dtype = b.dtype(x);
  const double identity = identity_of_scan(kind, dtype);
  // From the end, padding comes before the elements.
  if (is_reverse) x = clear_padding(b, x, cut, constant(b, identity, {dtype, {}}));
  const Value local = b.emit(kOp, {x}, attributes);
  Value total = last_row(b, local, dim, is_reverse);
  if (attributes.flag(Attr::is_exclusive))
    total = combine_scans(b, kind, total, last_row(b, x, dim, is_reverse));
  Value before = from_before(b, total, cut.axes, 1, is_reverse, identity);
  for (int64_t places = 1; places < cut.parts() - 1; places *= 2)
    before = combine_scans(b, kind, from_before(b, before, cut.axes, places, is_reverse, identity),
                           before);
  const Shape shape = b.shape(local);
  return {combine_scans(b, kind, repeat_row(b, before, shape), local)};
}

double exchange_bytes(const OpCall& call, std::span<const TensorType> results,
                      std::span<const AxisList> axes) {
  const FactorRule rule = factors(call, results);
  const CutShapes shapes(rule, axes);
  const int dim = dim_of(call.attributes);
  if (shapes.axes_of(rule.operands[0], dim).empty()) return 0;
  return prefix_bytes(call.operands[0], shapes, rule.operands[0], dim, 1);
}

std::vector<LinearSet> linear(const OpCall& call) {
  const std::optional<ReduceKind> kind = kind_of(call.attributes);
  if (kind == ReduceKind::sum || kind == ReduceKind::max || kind == ReduceKind::min)
    return {{{0}, *kind}};
  return {};
}

std::vector<OpSample> samples() {
  auto sample = [](DType dtype, Shape x, int64_t dim, ReduceKind kind, bool is_reverse,
                   bool is_exclusive) {
    return OpSample{{{dtype, x}},
                    {{Attr::dimension, dim},
                     {Attr::reduce_kind, kind},
                     {Attr::is_reverse, is_reverse},
                     {Attr::is_exclusive, is_exclusive}},
                    {},
                    dtype == DType::f64};
  };
  return {sample(DType::f64, {8, 2}, 0, ReduceKind::sum, false, false),
          sample(DType::f64, {2, 6}, 1, ReduceKind::sum, true, true),
          sample(DType::f64, {7}, 0, ReduceKind::sum, true, false),
          sample(DType::f64, {6, 2}, 0, ReduceKind::product, false, false),
          sample(DType::f64, {5, 2}, 0, ReduceKind::product, true, true),
          sample(DType::f64, {8, 2}, 0, ReduceKind::max, false, false),
          sample(DType::f64, {2, 7}, 1, ReduceKind::min, true, false),
          sample(DType::s32, {8}, 0, ReduceKind::sum, false, true),
          sample(DType::s32, {6}, 0, ReduceKind::max, false, false),
          sample(DType::pred, {6}, 0, ReduceKind::logical_or, false, false)};
}

std::vector<OpSample> exponential_samples() {
  auto sample = [](Shape x, int64_t dim, bool is_reverse) {
    return OpSample{{{DType::f64, x}}, {{Attr::dimension, dim}, {Attr::is_reverse, is_reverse}}};
  };
  return {sample({8, 2}, 0, false), sample({2, 5}, 1, true)};
}

Attributes attributes_of(int64_t dimension, ScanOptions options) {
  Attributes attributes{{Attr::dimension, dimension}};
  if (options.is_reverse) attributes.set(Attr::is_reverse, true);
  if (options.is_exclusive) attributes.set(Attr::is_exclusive, true);
  return attributes;
}

}  // namespace

const OpDef kScan{.name = "scan",
                  .attributes = {Attr::dimension, Attr::reduce_kind},
                  .optional_attributes = {Attr::is_reverse, Attr::is_exclusive},
                  .infer = infer<kScan>,
                  .eval = eval,
                  .grad = grad<kScan>,
                  .factors = factors,
                  .linear = linear,
                  .partition = partition<kScan>,
                  .exchange_bytes = exchange_bytes,
                  .samples = samples};
const OpDef kLogSumExpScan{.name = "log_sum_exp_scan",
                           .attributes = {Attr::dimension},
                           .optional_attributes = {Attr::is_reverse, Attr::is_exclusive},
                           .infer = infer<kLogSumExpScan>,
                           .eval = eval,
                           .grad = grad<kLogSumExpScan>,
                           .factors = factors,
                           .partition = partition<kLogSumExpScan>,
                           .exchange_bytes = exchange_bytes,
                           .samples = exponential_samples};

Value scan(Builder& b, Value x, int64_t dimension, ReduceKind kind, ScanOptions options) {
  Attributes attributes = attributes_of(dimension, options);
  attributes.set(Attr::reduce_kind, kind);
  return b.emit(kScan, {x}, attributes);
}
Value log_sum_exp_scan(Builder& b, Value x, int64_t dimension, ScanOptions options) {
  return b.emit(kLogSumExpScan, {x}, attributes_of(dimension, options));
}

}  // namespace tessera::ops
