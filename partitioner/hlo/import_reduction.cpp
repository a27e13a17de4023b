// reduce, reduce-window, select-and-scatter: combiners of a known kind become that kind.
#include <algorithm>
#include <limits>

#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce_region.h"
#include "core/ops/reduce_window.h"
#include "core/ops/scan.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/import_support.h"
#include "partitioner/hlo/region_expression.h"

namespace tessera::hlo {
namespace {

// Operands (xs..., inits...) of reduce and reduce-window.
struct Reduced {
  std::vector<Value> xs, inits;
  std::vector<Value> all() const {
    std::vector<Value> both = xs;
    both.insert(both.end(), inits.begin(), inits.end());
    return both;
  }
};

Reduced reduced_of(ImportContext& c) {
  const int count = c.operand_count() / 2;
  if (count == 0 || c.operand_count() % 2 != 0)
    c.fail(cat(c.instruction().opcode, " takes operands and as many initial values, not ",
               c.operand_count(), " operands"));
  Reduced reduced;
  for (int i = 0; i < count; ++i) {
    reduced.xs.push_back(c.operand(i));
    reduced.inits.push_back(c.operand(count + i));
  }
  return reduced;
}

// The kind of a region over elements of this dtype, where the op knows it.
std::optional<ReduceKind> kind_of(const Graph& region, DType dtype) {
  const std::optional<ReduceKind> kind = ops::as_reduce_kind(region);
  if (!kind) return std::nullopt;
  for (const GraphInput& input : region.inputs)
    if (region.type(input.value) != TensorType{dtype, {}}) return std::nullopt;
  return kind;
}

// ---- argmax -------------------------------------------------------------------------------------

// What JAX combines (value, index) pairs with, as two texts; `direction` gt is argmax.
std::pair<std::string, std::string> extreme_expressions(DType dtype, DType index_dtype,
                                                        CompareDirection direction) {
  Graph region;
  Builder b(region);
  const Value x = b.input(InputKind::data, "x", {dtype, {}}),
              i = b.input(InputKind::data, "i", {index_dtype, {}}),
              y = b.input(InputKind::data, "y", {dtype, {}}),
              j = b.input(InputKind::data, "j", {index_dtype, {}});
  Value takes_x = ops::compare(b, x, y, direction);
  if (is_float(dtype))
    takes_x = ops::logical_or(b, takes_x, ops::compare(b, x, x, CompareDirection::ne));
  const Value value = b.emit(ops::kSelect, {takes_x, x, y});
  const Value is_first = ops::logical_and(b, ops::compare(b, x, y, CompareDirection::eq),
                                          ops::compare(b, i, j, CompareDirection::lt));
  const Value index = b.emit(ops::kSelect, {ops::logical_or(b, takes_x, is_first), i, j});
  return {expression_of(region, value), expression_of(region, index)};
}

// max for argmax, min for argmin.
std::optional<ReduceKind> as_extreme(const Graph& region) {
  if (region.inputs.size() != 4 || region.outputs.size() != 2) return std::nullopt;
  const DType dtype = region.type(region.inputs[0].value).dtype,
              index = region.type(region.inputs[1].value).dtype;
  if (dtype == DType::c64 || !is_integer(index)) return std::nullopt;
  const std::pair<std::string, std::string> found{expression_of(region, 0),
                                                  expression_of(region, 1)};
  if (found == extreme_expressions(dtype, index, CompareDirection::gt)) return ReduceKind::max;
  if (found == extreme_expressions(dtype, index, CompareDirection::lt)) return ReduceKind::min;
  return std::nullopt;
}

bool is_iota(const Graph& graph, Value value) {
  const Instruction& made = graph.at(value);
  if (made.is(ops::kBroadcastInDim)) return graph.at(made.operands[0]).is(ops::kIota);
  return made.is(ops::kIota);
}

// The extreme, and the first index where it stands, by reductions of known kinds: they cut, and
// combine over devices, like any others. Indices ascend, so the first NaN is the smallest index
// too.
std::vector<Value> extreme(Builder& b, const Reduced& reduced, const Ints& dims, ReduceKind kind) {
  const Value x = reduced.xs[0], index = reduced.xs[1];
  const bool is_neutral = is_identity_constant(b.graph(), reduced.inits[0], kind);
  std::vector<Value> operands{x};
  if (!is_neutral) operands.push_back(reduced.inits[0]);
  const Value best =
      b.emit(ops::kReduce, operands, {{Attr::dimensions, dims}, {Attr::reduce_kind, kind}});
  Ints kept;
  for (int64_t d = 0; d < b.shape(x).rank(); ++d)
    if (std::find(dims.begin(), dims.end(), d) == dims.end()) kept.push_back(d);
  const auto equals = [&](Value left, Value right) {
    const Value same = ops::compare(b, left, right, CompareDirection::eq);
    if (!is_float(b.dtype(left))) return same;
    return ops::logical_or(b, same, ops::compare(b, left, left, CompareDirection::ne));
  };
  const Value spread =
      b.shape(best) == b.shape(x) ? best : ops::broadcast_in_dim(b, best, b.shape(x), kept);
  const double last = ops::identity_of(ReduceKind::min, b.dtype(index));
  const Value candidates =
      b.emit(ops::kSelect, {equals(x, spread), index, ops::constant_like(b, index, last)});
  const Value first = ops::reduce(b, candidates, dims, ReduceKind::min);
  // The initial pair takes part where its value is the best one.
  const auto over_results = [&](Value scalar) {
    return b.shape(best).rank() == 0 ? scalar : ops::broadcast_scalar(b, scalar, b.shape(best));
  };
  const Value start = over_results(reduced.inits[1]);
  const Value is_start =
      ops::compare(b, best, over_results(reduced.inits[0]), CompareDirection::eq);
  const Value from_start =
      b.emit(ops::kSelect, {is_start, start, ops::constant_like(b, first, last)});
  return {best, ops::minimum(b, first, from_start)};
}

// pred has no maximum of its own: 0 and 1 have.
std::vector<Value> extreme_of(Builder& b, Reduced reduced, const Ints& dims, ReduceKind kind) {
  if (b.dtype(reduced.xs[0]) != DType::pred) return extreme(b, reduced, dims, kind);
  reduced.xs[0] = ops::convert(b, reduced.xs[0], DType::u8);
  reduced.inits[0] = ops::convert(b, reduced.inits[0], DType::u8);
  std::vector<Value> found = extreme(b, reduced, dims, kind);
  found[0] = ops::convert(b, found[0], DType::pred);
  return found;
}

// ---- reduce -------------------------------------------------------------------------------------

void check_reduced_dims(const ImportContext& c, const Ints& dims, int rank) {
  for (int64_t d : dims)
    if (d < 0 || d >= rank) c.fail(cat("dimensions={", join(dims, ","), "} of a rank of ", rank));
}

void reduce(ImportContext& c) {
  Builder& b = c.builder();
  const Reduced reduced = reduced_of(c);
  const Ints dims = c.ints_or_empty("dimensions");
  check_reduced_dims(c, dims, b.shape(reduced.xs[0]).rank());
  const GraphRef region = flat_region(c, "to_apply");
  if (reduced.xs.size() == 1) {
    if (const auto kind = kind_of(*region, b.dtype(reduced.xs[0]))) {
      std::vector<Value> operands = reduced.xs;
      if (!is_identity_constant(b.graph(), reduced.inits[0], *kind))
        operands.push_back(reduced.inits[0]);
      return c.set({b.emit(ops::kReduce, std::move(operands),
                           {{Attr::dimensions, dims}, {Attr::reduce_kind, *kind}})});
    }
  } else if (reduced.xs.size() == 2 && is_iota(b.graph(), reduced.xs[1])) {
    if (const auto kind = as_extreme(*region)) return c.set(extreme_of(b, reduced, dims, *kind));
  }
  c.set(ops::reduce(b, reduced.xs, reduced.inits, dims, region));
}

// ---- reduce-window ------------------------------------------------------------------------------

struct Scan {
  int64_t dimension = 0;
  bool is_reverse = false;
};

// One dim with a window as large as itself and as much padding on one side, nothing else: each
// window is a prefix or a suffix.
std::optional<Scan> as_scan(const Window& window, const Shape& shape) {
  std::optional<Scan> scan;
  for (int d = 0; d < shape.rank(); ++d) {
    const auto s = static_cast<size_t>(d);
    if (window.stride[s] != 1 || window.lhs_dilate[s] != 1 || window.rhs_dilate[s] != 1)
      return std::nullopt;
    const int64_t size = window.size[s], low = window.pad_low[s], high = window.pad_high[s];
    if (size == 1 && low == 0 && high == 0) continue;
    const bool is_prefix = low == size - 1 && high == 0, is_suffix = low == 0 && high == size - 1;
    if (scan || size != shape[d] || (!is_prefix && !is_suffix)) return std::nullopt;
    scan = Scan{d, is_suffix};
  }
  return scan;
}

// log(exp(x) + exp(y)) as JAX writes it.
bool is_log_sum_exp(const Graph& region, DType dtype) {
  if (!is_float(dtype) || region.inputs.size() != 2 || region.outputs.size() != 1) return false;
  Graph wanted;
  Builder b(wanted);
  const Value x = b.input(InputKind::data, "x", {dtype, {}}),
              y = b.input(InputKind::data, "y", {dtype, {}});
  const Value difference = ops::subtract(b, x, y);
  const Value sum =
      ops::add(b, ops::maximum(b, x, y),
               ops::log_plus_one(b, ops::exponential(b, ops::negate(b, ops::abs(b, difference)))));
  const Value is_nan = ops::compare(b, difference, difference, CompareDirection::ne);
  return expression_of(region) ==
         expression_of(wanted, b.emit(ops::kSelect, {is_nan, ops::add(b, x, y), sum}));
}

Attributes window_attributes(const Window& window) {
  return {{Attr::window_dimensions, window.size},    {Attr::window_strides, window.stride},
          {Attr::padding_low, window.pad_low},       {Attr::padding_high, window.pad_high},
          {Attr::base_dilations, window.lhs_dilate}, {Attr::window_dilations, window.rhs_dilate}};
}

// XLA combines the initial value into each window once and leaves padding out, and so JAX's outputs
// have it; the specification of StableHLO would pad with it. Identities are the same in both.
Value window_of_kind(Builder& b, const Reduced& reduced, const Window& window,
                     const std::optional<Scan>& scan, ReduceKind kind) {
  Value made;
  if (scan) {
    made = ops::scan(b, reduced.xs[0], scan->dimension, kind, {.is_reverse = scan->is_reverse});
  } else {
    Attributes attributes = window_attributes(window);
    attributes.set(Attr::reduce_kind, kind);
    made = b.emit(ops::kReduceWindow, reduced.xs, attributes);
  }
  const Value init = reduced.inits[0];
  if (is_identity_constant(b.graph(), init, kind)) return made;
  if (b.type(init) != TensorType{b.dtype(made), {}})
    throw_user_error("reduce-window: ", b.type(made), " cannot start from ", b.type(init));
  const Value spread =
      b.shape(made).rank() == 0 ? init : ops::broadcast_scalar(b, init, b.shape(made));
  return ops::combine_values(b, kind, made, spread);
}

void reduce_window(ImportContext& c) {
  Builder& b = c.builder();
  const Reduced reduced = reduced_of(c);
  const Shape shape = b.shape(reduced.xs[0]);
  const Window window =
      full_window(c, c.instruction().get<Window>("window"), static_cast<size_t>(shape.rank()));
  const GraphRef region = flat_region(c, "to_apply");
  const DType dtype = b.dtype(reduced.xs[0]);
  const bool is_single = reduced.xs.size() == 1;
  const std::optional<ReduceKind> kind = is_single ? kind_of(*region, dtype) : std::nullopt;
  const std::optional<Scan> scan = as_scan(window, shape);
  if (kind) return c.set({window_of_kind(b, reduced, window, scan, *kind)});
  if (scan && is_single && is_log_sum_exp(*region, dtype) &&
      is_identity_constant(b.graph(), reduced.inits[0], ReduceKind::max))
    return c.set({ops::log_sum_exp_scan(b, reduced.xs[0], scan->dimension,
                                        {.is_reverse = scan->is_reverse})});
  Attributes attributes = window_attributes(window);
  attributes.set(Attr::combiner, region);
  c.set(results_of(b, b.emit(ops::kReduceWindow, reduced.all(), attributes)));
}

// ---- select-and-scatter -------------------------------------------------------------------------

// What the first of equals with x >= y (x <= y) selects.
std::optional<ReduceKind> as_selection(const Graph& region) {
  const std::optional<ops::Comparison> comparison = ops::as_comparison(region);
  if (!comparison || comparison->total_order) return std::nullopt;
  if (comparison->direction == CompareDirection::ge) return ReduceKind::max;
  if (comparison->direction == CompareDirection::le) return ReduceKind::min;
  return std::nullopt;
}

void select_and_scatter(ImportContext& c) {
  expect_operands(c, 3);
  Builder& b = c.builder();
  const Value x = c.operand(0), source = c.operand(1), init = c.operand(2);
  const DType dtype = b.dtype(x);
  const Window window =
      full_window(c, c.instruction().get<Window>("window"), static_cast<size_t>(b.shape(x).rank()));
  for (const Ints* dilations : {&window.lhs_dilate, &window.rhs_dilate})
    for (int64_t dilation : *dilations)
      if (dilation != 1) return c.unsupported("opcode select-and-scatter with dilated windows");
  Attributes attributes{{Attr::window_dimensions, window.size},
                        {Attr::window_strides, window.stride},
                        {Attr::padding_low, window.pad_low},
                        {Attr::padding_high, window.pad_high}};
  const GraphRef select = flat_region(c, "select"), scatter = flat_region(c, "scatter");
  const std::optional<ReduceKind> selection = as_selection(*select);
  if (selection && (is_float(dtype) || is_integer(dtype)) &&
      kind_of(*scatter, dtype) == ReduceKind::sum &&
      is_identity_constant(b.graph(), init, ReduceKind::sum)) {
    attributes.set(Attr::reduce_kind, *selection);
    return c.set({b.emit(ops::kSelectAndScatter, {x, source}, attributes)});
  }
  attributes.set(Attr::select, select);
  attributes.set(Attr::combiner, scatter);
  c.set({b.emit(ops::kSelectAndScatter, {x, source, init}, attributes)});
}

}  // namespace

std::span<const OpcodeEntry> reduction_opcodes() {
  static constexpr OpcodeEntry kEntries[] = {
      {"reduce", reduce},
      {"reduce-window", reduce_window},
      {"select-and-scatter", select_and_scatter},
      {"sort", import_sort},
      {"topk", import_top_k},
      {"map", import_map},
  };
  return kEntries;
}

}  // namespace tessera::hlo
