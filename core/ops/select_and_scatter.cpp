// select_and_scatter: every window sends its element of the source to the element it selects.
#include <algorithm>

#include "core/ir/interpreter.h"
#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce_window.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"
#include "core/ops/window.h"

namespace tessera::ops {
namespace {

constexpr std::string_view kName = "select_and_scatter";

bool has_region(const Attributes& attributes) { return attributes.has(Attr::select); }

std::vector<WindowDim> windows(const OpCall& call) {
  return windows_of(kName, call.attributes, call.operands[0].shape,
                    call.attributes.ints(Attr::window_dimensions));
}

std::vector<TensorType> infer(const OpCall& call) {
  const bool is_region = has_region(call.attributes);
  require(is_region != call.attributes.has(Attr::reduce_kind) &&
              is_region == call.attributes.has(Attr::combiner),
          kName, ": takes either reduce_kind, or select and combiner");
  check_operand_count(kName, call, is_region ? 3 : 2);
  const TensorType &x = call.operands[0], &source = call.operands[1];
  TensorType expected{x.dtype, {}};
  for (const WindowDim& dim : windows(call)) expected.shape.push_back(dim.result());
  require(source == expected, kName, ": the windows of ", x, " give ", expected,
          ", not the source ", source);
  if (is_region) {
    require(call.operands[2] == TensorType{x.dtype, {}}, kName, ": starts ", x, " from ",
            call.operands[2], ", not from a scalar");
    check_region(kName, *call.attributes.get<GraphRef>(Attr::select), {x.dtype, x.dtype},
                 {DType::pred});
    check_combiner(kName, *call.attributes.get<GraphRef>(Attr::combiner), {x.dtype});
  } else {
    const auto kind = call.attributes.get<ReduceKind>(Attr::reduce_kind);
    require((kind == ReduceKind::max || kind == ReduceKind::min) && x.dtype != DType::pred &&
                x.dtype != DType::c64,
            kName, ": ", name_of(kind), " selects nothing of ", x, "; use max or min");
  }
  return {x};
}

// For each element of the source the element that its window selects (-1: all padding).
// keeps(selected, candidate) says whether the selected one stays.
template <typename Keeps>
std::vector<int64_t> selected(const OpCall& call, const Keeps& keeps) {
  const std::vector<WindowDim> dims = windows(call);
  const Shape &x = call.operands[0].shape, &source = call.operands[1].shape;
  const std::vector<int64_t> strides = x.strides();
  std::vector<int64_t> chosen(static_cast<size_t>(source.elements()), -1);
  std::vector<int64_t> q(dims.size(), 0);
  for (int64_t& choice : chosen) {
    const auto look = [&](auto& self, size_t d, int64_t at) -> void {
      if (d == dims.size()) {
        if (choice < 0 || !keeps(choice, at)) choice = at;
        return;
      }
      for (int64_t k = 0; k < dims[d].window; ++k)
        if (const int64_t p = dims[d].source(q[d], k); p >= 0)
          self(self, d + 1, at + p * strides[d]);
    };
    look(look, 0, 0);
    next_position(q, source);
  }
  return chosen;
}

template <typename D>
void scatter_elements(const OpCall& call, const HostTensor& x, const HostTensor& source,
                      HostTensor& y) {
  const bool is_max = call.attributes.get<ReduceKind>(Attr::reduce_kind) == ReduceKind::max;
  const Elements<D> values = elements_of<D>(x), added = elements_of<D>(source);
  Elements<D> sums(values.size(), D(0));
  const std::vector<int64_t> chosen = selected(call, [&](int64_t a, int64_t b) {
    return is_max ? values[a] >= values[b] : values[a] <= values[b];
  });
  for (size_t i = 0; i < chosen.size(); ++i)
    if (chosen[i] >= 0) sums[chosen[i]] += added[i];
  set_elements<D>(y, sums);
}

HostTensor element(const HostTensor& x, int64_t index) {
  const std::vector<int64_t> start = position_of(index, x.shape());
  return x.slice(start, Shape(std::vector<int64_t>(start.size(), 1))).reshaped({});
}

void scatter_by_region(const OpCall& call, std::span<const HostTensor* const> x,
                       std::span<HostTensor> y) {
  const Graph& select = *call.attributes.get<GraphRef>(Attr::select);
  const std::vector<int64_t> once(static_cast<size_t>(y[0].shape().rank()), 0);
  copy_elements(*x[2], 0, once, y[0], 0, y[0].shape().strides(), y[0].shape());
  const std::vector<int64_t> chosen = selected(call, [&](int64_t a, int64_t b) {
    return interpret(select, std::vector{element(*x[0], a), element(*x[0], b)})[0].get_int(0) != 0;
  });
  const Combiner combiner(call.attributes);
  for (size_t i = 0; i < chosen.size(); ++i)
    if (chosen[i] >= 0) combiner.combine(y, chosen[i], x.subspan(1, 1), static_cast<int64_t>(i));
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const DType dtype = call.operands[0].dtype;
  if (has_region(call.attributes))
    scatter_by_region(call, x, y);
  else if (is_float(dtype))
    scatter_elements<double>(call, *x[0], *x[1], y[0]);
  else if (is_signed_integer(dtype))
    scatter_elements<int64_t>(call, *x[0], *x[1], y[0]);
  else
    scatter_elements<uint64_t>(call, *x[0], *x[1], y[0]);
}

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> operand, source;
  const std::vector<WindowDim> dims = windows(call);
  for (int d = 0; d < results[0].rank(); ++d) {
    const int64_t x = results[0].shape[d], y = call.operands[1].shape[d];
    MovedDim dim;
    if (dims[static_cast<size_t>(d)].is_trivial()) {
      dim.operand = dim.result = add_factor(rule, x);
    } else if (has_region(call.attributes)) {
      dim = {add_factor(rule, x, FactorKind::need_replication),
             add_factor(rule, y, FactorKind::need_replication)};
    } else {
      dim = add_moved_dim(rule, x, y);
    }
    operand.push_back(dim.operand);
    source.push_back(dim.result);
  }
  rule.operands = {dims_of(operand), dims_of(source)};
  add_starts(rule, call);
  rule.results = {dims_of(operand)};
  return rule;
}

// What a device with `length` elements from c * length on needs of one dim: the source elements of
// all windows that touch them, and the elements that those windows read. The first window's place
// relative to the own elements depends on the device where the stride does not divide `length`.
struct Touching {
  HaloWindow source, operand;
  AffineStart first;  // the first source element
  bool drifts = false;
  int64_t span = 0;    // elements that the windows read
  int64_t before = 0;  // of them, before the own ones; where it drifts, at most
};

Touching touching(const WindowDim& dim, int64_t length, int64_t parts) {
  Touching t;
  // Windows with gaps between them are taken as wide as the stride, so that they cover every
  // element.
  const int64_t reach = std::max(dim.window, dim.stride);
  t.first = {length, dim.low - reach + dim.stride, dim.stride};
  const int64_t count = ceil_div(length + reach - 1, dim.stride);
  t.source = {t.first, count};
  t.span = (count - 1) * dim.stride + reach;
  t.drifts = parts > 1 && length % dim.stride != 0;
  if (t.drifts) {
    t.before = reach - 1;
    t.operand = {{length, -t.before}, t.span + dim.stride - 1};
  } else {
    t.before = -(t.first.at(0) * dim.stride - dim.low);
    t.operand = {{length, -t.before}, t.span};
  }
  return t;
}

std::vector<Value> partition(PartitionContext& c) {
  Builder& b = c.builder();
  const OpCall& call = c.call();
  std::vector<WindowDim> dims = windows(call);
  const Shape result = c.local_result_type(0).shape;
  Value x = c.operand(0), source = c.operand(1);
  const Value least =
      constant(b, identity_of(call.attributes.get<ReduceKind>(Attr::reduce_kind), b.dtype(x)),
               {b.dtype(x), {}});
  std::vector<std::pair<int, Value>> own;  // where the own elements start, by dim
  for (int d = 0; d < result.rank(); ++d) {
    WindowDim& dim = dims[static_cast<size_t>(d)];
    const CutDim cut = cut_dim(c, 0, d), source_cut = cut_dim(c, 1, d);
    if (dim.is_trivial() && cut.shard == source_cut.shard) continue;
    if (cut.axes.empty() && !cut.is_padded() && !source_cut.is_padded()) continue;
    const Touching t = touching(dim, result[d], cut.parts());
    source = halo_window(b, source, source_cut, t.source, {HaloFill::Kind::zero, {}});
    x = halo_window(b, x, cut, t.operand, {HaloFill::Kind::value, least});
    Value start = scalar_s64(b, t.before);
    if (t.drifts) {
      const Value first = multiply(b, t.first.value(b, cut.axes), scalar_s64(b, dim.stride));
      const Value base = AffineStart{result[d], dim.low - t.before}.value(b, cut.axes);
      const Value phase = subtract(b, first, base);
      x = slice_at(b, x, d, phase, t.span);
      start = subtract(b, start, phase);
    }
    dim.low = dim.high = 0;
    own.push_back({d, start});
  }
  Attributes local = call.attributes;
  set_windows(local, dims);
  Value made = b.emit(kSelectAndScatter, {x, source}, local);
  for (const auto& [d, start] : own) made = slice_at(b, made, d, start, result[d]);
  return {made};
}

double exchange_bytes(const OpCall& call, std::span<const TensorType> results,
                      std::span<const AxisList> axes) {
  const FactorRule rule = factors(call, results);
  const CutShapes shapes(rule, axes);
  const std::vector<WindowDim> dims = windows(call);
  const TensorType &x = call.operands[0], &source = call.operands[1];
  const Shape local = shapes.local(x.shape, rule.operands[0]);
  const Shape local_source = shapes.local(source.shape, rule.operands[1]);
  ExchangeBytes bytes(size_of(x.dtype));
  for (int d = 0; d < x.rank(); ++d) {
    const CutDim cut = shapes.cut(x.shape, rule.operands[0], d);
    if (cut.axes.empty() || dims[static_cast<size_t>(d)].is_trivial()) continue;
    const Touching t = touching(dims[static_cast<size_t>(d)], cut.shard, cut.parts());
    bytes.add(cut, t.operand, local);
    bytes.add(shapes.cut(source.shape, rule.operands[1], d), t.source, local_source);
  }
  return bytes.total();
}

std::vector<LinearSet> linear(const OpCall& call) {
  if (has_region(call.attributes)) return {};
  return {{{1}, ReduceKind::sum}};
}

double flops(const OpCall& call, std::span<const TensorType>) {
  return window_taps(call.attributes) * static_cast<double>(call.operands[1].elements());
}

std::vector<OpSample> samples() {
  auto sample = [](DType dtype, Shape x, Shape source, ReduceKind kind, Ints window, Ints strides,
                   Ints low, Ints high) {
    return OpSample{{{dtype, x}, {dtype, source}},
                    {{Attr::window_dimensions, window},
                     {Attr::window_strides, strides},
                     {Attr::padding_low, low},
                     {Attr::padding_high, high},
                     {Attr::reduce_kind, kind}},
                    {},
                    false};
  };
  OpSample region =
      sample(DType::f64, {6, 2}, {3, 2}, ReduceKind::max, {2, 1}, {2, 1}, {0, 0}, {0, 0});
  region.operands.push_back({DType::f64, {}});
  Attributes attributes;
  for (const auto& [key, value] : region.attributes.entries())
    if (key != Attr::reduce_kind) attributes.set(key, value);
  attributes.set(Attr::combiner, combiner_of(ReduceKind::sum, DType::f64));
  attributes.set(Attr::select, comparator_of({DType::f64}, CompareDirection::ge));
  region.attributes = attributes;
  return {sample(DType::f64, {8, 4}, {4, 2}, ReduceKind::max, {2, 2}, {2, 2}, {0, 0}, {0, 0}),
          sample(DType::f64, {7, 2}, {4, 2}, ReduceKind::max, {3, 1}, {2, 1}, {1, 0}, {1, 0}),
          sample(DType::f64, {6, 2}, {6, 2}, ReduceKind::min, {3, 1}, {1, 1}, {1, 0}, {1, 0}),
          sample(DType::f64, {11}, {3}, ReduceKind::max, {2}, {4}, {0}, {0}),
          sample(DType::f64, {9}, {4}, ReduceKind::max, {5}, {2}, {1}, {2}),
          sample(DType::s32, {8, 2}, {4, 2}, ReduceKind::max, {2, 1}, {2, 1}, {0, 0}, {0, 0}),
          region};
}

}  // namespace

const OpDef kSelectAndScatter{
    .name = kName,
    .attributes = {Attr::window_dimensions},
    .optional_attributes = {Attr::window_strides, Attr::padding_low, Attr::padding_high,
                            Attr::base_dilations, Attr::window_dilations, Attr::window_reversal,
                            Attr::reduce_kind, Attr::select, Attr::combiner},
    .infer = infer,
    .eval = eval,
    .factors = factors,
    .linear = linear,
    .partition = partition,
    .exchange_bytes = exchange_bytes,
    .flops = flops,
    .samples = samples};

}  // namespace tessera::ops
