#include "core/ops/reduce_window.h"

#include <cmath>

#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"
#include "core/ops/window.h"

namespace tessera::ops {
namespace {

bool has_region(const Attributes& attributes) { return attributes.has(Attr::combiner); }
// Operands that are reduced; behind them, with a region, as many initial scalars.
int input_count(const OpCall& call) {
  return has_region(call.attributes) ? static_cast<int>(call.operands.size()) / 2 : 1;
}

std::vector<WindowDim> windows(const OpCall& call) {
  return windows_of("reduce_window", call.attributes, call.operands[0].shape,
                    call.attributes.ints(Attr::window_dimensions));
}

std::vector<TensorType> infer(const OpCall& call) {
  require(has_region(call.attributes) != call.attributes.has(Attr::reduce_kind),
          "reduce_window: takes either reduce_kind or combiner");
  const int inputs = input_count(call);
  check_operand_count("reduce_window", call, has_region(call.attributes) ? 2 * inputs : 1);
  require(inputs > 0, "reduce_window: takes at least one operand");
  std::vector<DType> dtypes;
  for (int i = 0; i < inputs; ++i) {
    require(call.operands[i].shape == call.operands[0].shape, "reduce_window: operands ",
            call.operands[0], " and ", call.operands[i], " must have one shape");
    dtypes.push_back(call.operands[i].dtype);
  }
  if (has_region(call.attributes)) {
    for (int i = 0; i < inputs; ++i)
      require(call.operands[inputs + i] == TensorType{dtypes[i], {}}, "reduce_window: starts ",
              call.operands[i], " from ", call.operands[inputs + i], ", not from a scalar");
    check_combiner("reduce_window", *call.attributes.get<GraphRef>(Attr::combiner), dtypes);
  } else {
    check_kind("reduce_window", call.attributes.get<ReduceKind>(Attr::reduce_kind),
               call.operands[0]);
  }
  Shape shape;
  for (const WindowDim& dim : windows(call)) shape.push_back(dim.result());
  std::vector<TensorType> results;
  for (DType dtype : dtypes) results.push_back({dtype, shape});
  return results;
}

// Calls body(result index, source index) in row-major order of windows; source -1 is padding.
template <typename Body>
void for_each_pair(const std::vector<WindowDim>& dims, const Shape& input, const Shape& output,
                   Body body) {
  const std::vector<int64_t> x = input.strides(), y = output.strides();
  const auto walk_window = [&](auto& self, size_t d, const std::vector<int64_t>& q, int64_t from,
                               int64_t to) -> void {
    if (d == dims.size()) return body(to, from);
    for (int64_t k = 0; k < dims[d].window; ++k) {
      const int64_t p = dims[d].source(q[d], k);
      self(self, d + 1, q, from < 0 || p < 0 ? -1 : from + p * x[d], to);
    }
  };
  std::vector<int64_t> q(dims.size(), 0);
  if (output.elements() == 0) return;
  do {
    walk_window(walk_window, 0, q, 0, linear_index(q, output));
  } while (next_position(q, output));
}

template <typename D>
void reduce_elements(const OpCall& call, const HostTensor& x, HostTensor& y) {
  const auto kind = call.attributes.get<ReduceKind>(Attr::reduce_kind);
  const Elements<D> values = elements_of<D>(x);
  Elements<D> made = elements_of<D>(HostTensor::filled(y.type(), identity_of(kind, y.dtype())));
  for_each_pair(windows(call), x.shape(), y.shape(), [&](int64_t to, int64_t from) {
    if (from >= 0) made[to] = combined<D>(kind, made[to], values[from]);
  });
  set_elements<D>(y, made);
}

void reduce_by_region(const OpCall& call, std::span<const HostTensor* const> x,
                      std::span<HostTensor> y) {
  const Combiner combiner(call.attributes);
  const auto inputs = y.size();
  for (size_t i = 0; i < inputs; ++i) y[i] = HostTensor(y[i].type());
  for (size_t i = 0; i < inputs; ++i) {
    const std::vector<int64_t> once(static_cast<size_t>(y[i].shape().rank()), 0);
    copy_elements(*x[inputs + i], 0, once, y[i], 0, y[i].shape().strides(), y[i].shape());
  }
  for_each_pair(windows(call), x[0]->shape(), y[0].shape(), [&](int64_t to, int64_t from) {
    combiner.combine(y, to, from < 0 ? x.subspan(inputs, inputs) : x.subspan(0, inputs),
                     std::max<int64_t>(from, 0));
  });
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  if (has_region(call.attributes)) return reduce_by_region(call, x, y);
  dispatch_domain(call.operands[0].dtype,
                  [&]<typename D>() { reduce_elements<D>(call, *x[0], y[0]); });
}

// ---- gradient -----------------------------------------------------------------------------------

// A sum's cotangent is a sum over the windows that an element is in.
Value sum_gradient(Builder& b, Value dy, const Attributes& own, std::vector<WindowDim> dims) {
  const Shape& y = b.shape(dy);
  for (size_t d = 0; d < dims.size(); ++d) {
    const WindowDim dim = dims[d];
    dims[d] = {y[static_cast<int>(d)],
               dim.window,
               dim.base_dilation,
               dim.reach() - 1 - dim.low,
               0,
               dim.stride,
               dim.dilation,
               false};
    dims[d].high = dim.spread() + dim.low - dims[d].spread();
  }
  Attributes attributes{{Attr::window_dimensions, own.ints(Attr::window_dimensions)},
                        {Attr::reduce_kind, ReduceKind::sum}};
  set_windows(attributes, dims);
  return b.emit(kReduceWindow, {dy}, attributes);
}

// Of products along one dim: what each element of the windows stands beside, the windows taken
// apart into their first, second, ... elements. No division, as elements may be 0.
Value product_gradient_along(Builder& b, Value x, Value dy, int d, const WindowDim& dim) {
  const auto at = static_cast<size_t>(d);
  const DType dtype = b.dtype(x);
  const Value zero = constant(b, 0, {dtype, {}}), one = constant(b, 1, {dtype, {}});
  const int64_t count = b.shape(dy)[d], reach = (count - 1) * dim.stride + 1;
  const Ints none(static_cast<size_t>(b.shape(x).rank()), 0);
  const auto edge = [&](int64_t value) {
    Ints edges = none;
    edges[at] = value;
    return edges;
  };
  const Value line = pad(b, x, one, edge(dim.low), edge(dim.high), edge(dim.base_dilation - 1));
  const int64_t length = b.shape(line)[d];
  std::vector<Value> elements;  // number k of every window
  for (int64_t k = 0; k < dim.window; ++k) {
    Ints limit = ints_of(b.shape(line)), strides(none.size(), 1);
    limit[at] = k * dim.dilation + reach;
    strides[at] = dim.stride;
    elements.push_back(slice(b, line, edge(k * dim.dilation), limit, strides));
  }
  std::vector<Value> beside(elements.size(), dy);  // times all elements but the own
  Value before = dy, behind;
  for (size_t k = 1; k < elements.size(); ++k)
    beside[k] = before = multiply(b, before, elements[k - 1]);
  for (size_t k = elements.size() - 1; k-- > 0;) {
    behind = behind.valid() ? multiply(b, behind, elements[k + 1]) : elements[k + 1];
    beside[k] = multiply(b, beside[k], behind);
  }
  Value sum;
  for (size_t k = 0; k < elements.size(); ++k) {
    const int64_t first = static_cast<int64_t>(k) * dim.dilation;
    const Value own =
        pad(b, beside[k], zero, edge(first), edge(length - first - reach), edge(dim.stride - 1));
    sum = sum.valid() ? add(b, sum, own) : own;
  }
  sum = pad(b, sum, zero, edge(-dim.low), edge(-dim.high));
  Ints strides(none.size(), 1);
  strides[at] = dim.base_dilation;
  return dim.base_dilation == 1 ? sum : slice(b, sum, none, ints_of(b.shape(sum)), strides);
}

// The product over a window of several dims is that along one dim after the other.
Value product_gradient(Builder& b, Value x, Value dy, const std::vector<WindowDim>& dims) {
  constexpr int64_t kLongest = 64;  // operations per element of a window
  std::vector<Value> stages;
  for (size_t d = 0; d < dims.size(); ++d) {
    require(dims[d].window <= kLongest, "reduce_window: product over ", dims[d].window,
            " elements along dim ", d, " of ", b.type(x), " has no gradient: at most ", kLongest,
            "; use scan for cumulative products");
    stages.push_back(x);
    if (d + 1 == dims.size()) break;
    std::vector<WindowDim> alone(dims.size());
    for (size_t other = 0; other < dims.size(); ++other)
      alone[other].size = b.shape(x)[static_cast<int>(other)];
    alone[d] = dims[d];
    Ints window(dims.size(), 1);
    window[d] = dims[d].window;
    Attributes attributes{{Attr::window_dimensions, window},
                          {Attr::reduce_kind, ReduceKind::product}};
    set_windows(attributes, alone);
    if (!dims[d].is_trivial()) x = b.emit(kReduceWindow, {x}, attributes);
  }
  for (size_t d = dims.size(); d-- > 0;)
    if (!dims[d].is_trivial())
      dy = product_gradient_along(b, stages[d], dy, static_cast<int>(d), dims[d]);
  return dy;
}

// An extreme's cotangent goes to where the extreme stands.
Value extreme_gradient(Builder& b, Value x, Value dy, const Attributes& own) {
  Attributes attributes{{Attr::window_dimensions, own.ints(Attr::window_dimensions)},
                        {Attr::reduce_kind, own.get<ReduceKind>(Attr::reduce_kind)}};
  for (Attr key : {Attr::window_strides, Attr::padding_low, Attr::padding_high})
    if (own.has(key)) attributes.set(key, own.ints(key));
  return b.emit(kSelectAndScatter, {x, dy}, attributes);
}

std::vector<Value> grad(GradContext& c) {
  const Attributes& own = c.attributes();
  require(own.has(Attr::reduce_kind),
          "reduce_window: a combiner region has no gradient; use reduce_kind sum, product, max or "
          "min");
  if (!c.needs_gradient(0)) return {Value{}};
  Builder& b = c.builder();
  const TensorType x = c.operand_type(0);
  const auto kind = own.get<ReduceKind>(Attr::reduce_kind);
  const std::vector<WindowDim> dims =
      windows_of("reduce_window", own, x.shape, own.ints(Attr::window_dimensions));
  if (kind == ReduceKind::sum) return {sum_gradient(b, c.cotangent(0), own, dims)};
  if (c.result_type(0).elements() == 0) return {constant(b, 0, x)};
  if (kind == ReduceKind::product) return {product_gradient(b, c.operand(0), c.cotangent(0), dims)};
  const auto is_plain = [](const WindowDim& dim) {
    return dim.base_dilation == 1 && dim.dilation == 1;
  };
  require((kind == ReduceKind::max || kind == ReduceKind::min) &&
              std::all_of(dims.begin(), dims.end(), is_plain),
          "reduce_window: ", name_of(kind), " of ", x,
          " has no gradient: it has one for sum and product, and for max and min without dilation");
  return {extreme_gradient(b, c.operand(0), c.cotangent(0), own)};
}

// ---- sharding -----------------------------------------------------------------------------------

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  std::vector<int> operand, result;
  const std::vector<WindowDim> dims = windows(call);
  for (int d = 0; d < results[0].rank(); ++d) {
    const int64_t x = call.operands[0].shape[d], y = results[0].shape[d];
    MovedDim dim;
    if (dims[static_cast<size_t>(d)].is_trivial())
      dim.operand = dim.result = add_factor(rule, x);
    else
      dim = add_moved_dim(rule, x, y);
    operand.push_back(dim.operand);
    result.push_back(dim.result);
  }
  for (int i = 0; i < static_cast<int>(call.operands.size()); ++i)
    rule.operands.push_back(i < input_count(call) ? dims_of(operand) : TensorFactors{});
  rule.results.assign(results.size(), dims_of(result));
  return rule;
}

std::vector<Value> partition(PartitionContext& c) {
  Builder& b = c.builder();
  const OpCall& call = c.call();
  const Shape result = c.local_result_type(0).shape;
  std::vector<WindowDim> dims;
  std::vector<Value> operands;
  const int inputs = input_count(call);
  for (int i = 0; i < inputs; ++i) {
    dims = windows(call);
    Value x = c.operand(i);
    const Value fill =
        has_region(call.attributes)
            ? c.operand(inputs + i)
            : constant(b,
                       identity_of(call.attributes.get<ReduceKind>(Attr::reduce_kind), b.dtype(x)),
                       {b.dtype(x), {}});
    for (int d = 0; d < result.rank(); ++d) {
      x = local_window(b, x, cut_dim(c, i, d), dims[static_cast<size_t>(d)], result[d],
                       {HaloFill::Kind::value, fill});
    }
    operands.push_back(x);
  }
  for (int i = inputs; i < static_cast<int>(call.operands.size()); ++i)
    operands.push_back(c.operand(i));
  Attributes local = call.attributes;
  set_windows(local, dims);
  const Value made = b.emit(kReduceWindow, operands, local);
  std::vector<Value> results;
  for (int i = 0; i < inputs; ++i) results.push_back({made.instruction, i});
  return results;
}

double exchange_bytes(const OpCall& call, std::span<const TensorType> results,
                      std::span<const AxisList> axes) {
  const FactorRule rule = factors(call, results);
  const CutShapes shapes(rule, axes);
  const std::vector<WindowDim> dims = windows(call);
  double total = 0;
  for (int i = 0; i < input_count(call); ++i) {
    const TensorType& x = call.operands[i];
    const Shape local = shapes.local(x.shape, rule.operands[i]);
    const Shape result = shapes.local(results[i].shape, rule.results[i]);
    ExchangeBytes bytes(size_of(x.dtype));
    for (int d = 0; d < x.rank(); ++d) {
      const CutDim cut = shapes.cut(x.shape, rule.operands[i], d);
      const WindowDim& dim = dims[static_cast<size_t>(d)];
      if (!cut.axes.empty() && !dim.is_trivial())
        bytes.add(cut, read_window(cut, dim, result[d]).source, local);
    }
    if (bytes.total() < 0) return -1;
    total += bytes.total();
  }
  return total;
}

std::vector<LinearSet> linear(const OpCall& call) {
  if (has_region(call.attributes)) return {};
  return {{{0}, call.attributes.get<ReduceKind>(Attr::reduce_kind)}};
}

double flops(const OpCall& call, std::span<const TensorType> results) {
  return window_taps(call.attributes) *
         static_cast<double>(results[0].elements() * input_count(call));
}

Attributes attributes_of(const Pooling& pooling) {
  Attributes attributes{{Attr::window_dimensions, pooling.window}};
  const auto set = [&](Attr key, const Ints& values) {
    if (!values.empty()) attributes.set(key, values);
  };
  set(Attr::window_strides, pooling.strides);
  set(Attr::padding_low, pooling.low);
  set(Attr::padding_high, pooling.high);
  set(Attr::base_dilations, pooling.base_dilations);
  set(Attr::window_dilations, pooling.dilations);
  return attributes;
}

std::vector<OpSample> samples() {
  auto sample = [](DType dtype, Shape x, ReduceKind kind, const Pooling& pooling,
                   bool differentiable = true) {
    OpSample sample{{{dtype, x}}, attributes_of(pooling), {}, differentiable};
    sample.attributes.set(Attr::reduce_kind, kind);
    return sample;
  };
  OpSample region{{{DType::f64, {8, 2}}, {DType::f64, {}}},
                  attributes_of({{3, 1}, {2, 1}, {1, 0}, {1, 0}, {}, {}}),
                  {},
                  false};
  region.attributes.set(Attr::combiner, combiner_of(ReduceKind::sum, DType::f64));
  return {
      sample(DType::f64, {2, 8}, ReduceKind::sum, {{1, 3}, {}, {0, 1}, {0, 1}, {}, {}}),
      sample(DType::f64, {8, 4}, ReduceKind::max, {{2, 2}, {2, 2}, {}, {}, {}, {}}),
      sample(DType::f64, {7, 2}, ReduceKind::max, {{3, 1}, {2, 1}, {1, 0}, {1, 0}, {}, {}}),
      sample(DType::f64, {6, 2}, ReduceKind::min, {{3, 1}, {1, 1}, {1, 0}, {1, 0}, {}, {}}),
      sample(DType::f64, {5, 2}, ReduceKind::sum, {{2, 1}, {3, 1}, {2, 0}, {1, 0}, {2, 1}, {2, 1}}),
      sample(DType::f64, {6, 2}, ReduceKind::product, {{2, 1}, {1, 1}, {0, 0}, {0, 0}, {}, {}}),
      sample(DType::f64, {7, 5}, ReduceKind::product, {{3, 2}, {2, 1}, {1, -1}, {2, 1}, {}, {}}),
      sample(DType::f64, {5, 2}, ReduceKind::product,
             {{2, 1}, {3, 1}, {2, 0}, {1, 0}, {2, 1}, {2, 1}}),
      sample(DType::s32, {8}, ReduceKind::sum, {{8}, {1}, {7}, {0}, {}, {}}, false),
      sample(DType::pred, {4, 4}, ReduceKind::logical_or, {{2, 1}, {}, {1, 0}, {}, {}, {}}, false),
      region};
}

}  // namespace

const OpDef kReduceWindow{
    .name = "reduce_window",
    .attributes = {Attr::window_dimensions},
    .optional_attributes = {Attr::window_strides, Attr::padding_low, Attr::padding_high,
                            Attr::base_dilations, Attr::window_dilations, Attr::window_reversal,
                            Attr::reduce_kind, Attr::combiner},
    .infer = infer,
    .eval = eval,
    .grad = grad,
    .factors = factors,
    .linear = linear,
    .partition = partition,
    .exchange_bytes = exchange_bytes,
    .flops = flops,
    .samples = samples};

Value reduce_window(Builder& b, Value x, const Pooling& pooling, ReduceKind kind) {
  Attributes attributes = attributes_of(pooling);
  attributes.set(Attr::reduce_kind, kind);
  return b.emit(kReduceWindow, {x}, attributes);
}

}  // namespace tessera::ops
