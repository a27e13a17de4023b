#include "core/ops/convolution.h"

#include <algorithm>
#include <numeric>

#include "core/ops/convolution_geometry.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count("convolution", call, 2);
  const TensorType &x = call.operands[0], &w = call.operands[1];
  require(x.dtype == w.dtype && x.dtype != DType::pred,
          "convolution: operands must be numbers of one type, got ", x, " and ", w);
  const ConvolutionSizes sizes =
      convolution_sizes("convolution", call.attributes, x.shape, w.shape);
  const ConvolutionDims dims = convolution_dims(call.attributes);
  std::vector<int> named = dims.output;
  named.push_back(dims.output_batch);
  named.push_back(dims.output_feature);
  std::sort(named.begin(), named.end());
  for (size_t i = 0; i < named.size(); ++i)
    require(named[i] == static_cast<int>(i) && dims.output.size() == dims.input.size(),
            "convolution: the dimension numbers of the output [", join(named, ","), "] do not fit ",
            x, " and ", w);
  return {{call.attributes.get_or<DType>(Attr::dtype, x.dtype),
           convolution_result(call.attributes, sizes)}};
}

template <typename D>
void convolve(const OpCall& call, const HostTensor& x, const HostTensor& w, HostTensor& y) {
  const ConvolutionSizes sizes =
      convolution_sizes("convolution", call.attributes, x.shape(), w.shape());
  const Elements<D> input = elements_of<D>(x), kernel = elements_of<D>(w);
  Elements<D> output(static_cast<size_t>(y.elements()), D(0));
  for_each_product(call.attributes, sizes, x.shape(), w.shape(), y.shape(),
                   [&](int64_t i, int64_t k, int64_t o) { output[o] += input[i] * kernel[k]; });
  set_elements<D>(y, output);
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const DType dtype = call.operands[0].dtype;
  if (is_float(dtype))
    convolve<double>(call, *x[0], *x[1], y[0]);
  else if (dtype == DType::c64)
    convolve<std::complex<double>>(call, *x[0], *x[1], y[0]);
  else
    convolve<uint64_t>(call, *x[0], *x[1], y[0]);
}

// ---- gradient -----------------------------------------------------------------------------------

// x with `groups` taken from the major end of dim `from` and put at the major end of dim `to`.
Value move_groups(Builder& b, Value x, int from, int to, int64_t groups) {
  const Shape shape = b.shape(x);
  Shape split;
  Ints order;
  for (int d = 0; d < shape.rank(); ++d) {
    if (d == from) split.push_back(groups);
    split.push_back(d == from ? shape[d] / groups : shape[d]);
  }
  for (int d = 0; d < shape.rank(); ++d) {
    if (d == to) order.push_back(from);
    order.push_back(d < from ? d : d + 1);
  }
  Shape moved = shape;
  moved[from] /= groups;
  moved[to] *= groups;
  return reshape(b, transpose(b, reshape(b, x, split), order), moved);
}

// A batch group sees its own output features: as feature groups, once the groups of the batch stand
// before the features.
Attributes with_feature_groups(Attributes attributes) {
  attributes.set(Attr::feature_group_count, attributes.get_or<int64_t>(Attr::batch_group_count, 1));
  attributes.set(Attr::batch_group_count, int64_t{1});
  return attributes;
}

// d input: the output's cotangent convolved with the kernel turned round, stride and dilation of
// the base having changed places.
Value input_gradient(Builder& b, const Attributes& attributes, Value dy, Value w,
                     const Shape& input, DType dtype) {
  const ConvolutionDims dims = convolution_dims(attributes);
  const ConvolutionSizes sizes = convolution_sizes("convolution", attributes, input, b.shape(w));
  std::vector<WindowDim> windows = sizes.windows;
  for (size_t s = 0; s < windows.size(); ++s) {
    const WindowDim& own = sizes.windows[s];
    WindowDim& dim = windows[s];
    dim = {sizes.output[s], own.window,   own.base_dilation, own.reach() - 1 - own.low, 0,
           own.stride,      own.dilation, !own.is_reversed};
    dim.high = own.spread() + own.low - dim.spread();
  }
  Attributes result = attributes;
  set_windows(result, windows);
  result.set(Attr::input_batch_dimension, attributes.integer(Attr::output_batch_dimension));
  result.set(Attr::input_feature_dimension, attributes.integer(Attr::output_feature_dimension));
  result.set(Attr::input_spatial_dimensions, attributes.ints(Attr::output_spatial_dimensions));
  result.set(Attr::output_batch_dimension, attributes.integer(Attr::input_batch_dimension));
  result.set(Attr::output_feature_dimension, attributes.integer(Attr::input_feature_dimension));
  result.set(Attr::output_spatial_dimensions, attributes.ints(Attr::input_spatial_dimensions));
  result.set(Attr::kernel_input_feature_dimension, int64_t{dims.kernel_out});
  result.set(Attr::kernel_output_feature_dimension, int64_t{dims.kernel_in});
  result.set(Attr::dtype, dtype);
  if (dims.feature_groups > 1)
    w = move_groups(b, w, dims.kernel_out, dims.kernel_in, dims.feature_groups);
  return b.emit(kConvolution, {dy, w}, result);
}

Value kernel_gradient(Builder& b, Attributes attributes, Value x, Value dy, const Shape& kernel,
                      DType dtype) {
  Ints window;
  for (int d : convolution_dims(attributes).kernel) window.push_back(kernel[d]);
  attributes.set(Attr::window_dimensions, window);
  attributes.set(Attr::dtype, dtype);
  return b.emit(kConvolutionKernelGrad, {x, dy}, attributes);
}

std::vector<Value> grad(GradContext& c) {
  Builder& b = c.builder();
  Attributes attributes = c.attributes();
  const ConvolutionDims dims = convolution_dims(attributes);
  const int64_t groups = dims.batch_groups;
  const DType dtype = c.operand_type(0).dtype;
  const Value dy = as_dtype(b, c.cotangent(0), dtype);
  Shape input = c.operand_type(0).shape;
  if (groups > 1) {
    attributes = with_feature_groups(attributes);
    input[dims.input_batch] /= groups;
    input[dims.input_feature] *= groups;
  }
  std::vector<Value> cotangents(2);
  if (c.needs_gradient(0)) {
    cotangents[0] = input_gradient(b, attributes, dy, c.operand(1), input, c.gradient_dtype(0));
    if (groups > 1)
      cotangents[0] = move_groups(b, cotangents[0], dims.input_feature, dims.input_batch, groups);
  }
  if (c.needs_gradient(1)) {
    Value x = c.operand(0);
    if (groups > 1) x = move_groups(b, x, dims.input_batch, dims.input_feature, groups);
    cotangents[1] =
        kernel_gradient(b, attributes, x, dy, c.operand_type(1).shape, c.gradient_dtype(1));
  }
  return cotangents;
}

// ---- sharding -----------------------------------------------------------------------------------

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  const ConvolutionDims dims = convolution_dims(call.attributes);
  const Shape &x = call.operands[0].shape, &w = call.operands[1].shape, &y = results[0].shape;
  const ConvolutionSizes sizes = convolution_sizes("convolution", call.attributes, x, w);
  FactorRule rule;
  std::vector<std::vector<int>> input(static_cast<size_t>(x.rank())), kernel = input,
                                                                      output = input;
  const int batch = add_factor(rule, sizes.batch);
  const int batch_group = add_factor(rule, sizes.batch_groups);
  const int group = add_factor(rule, sizes.feature_groups);
  const int out = add_factor(rule, sizes.out);
  const int in = add_factor(rule, sizes.in, FactorKind::reduction);
  input[dims.input_batch] = {batch_group, batch};
  input[dims.input_feature] = {group, in};
  kernel[dims.kernel_in] = {in};
  kernel[dims.kernel_out] = {batch_group, group, out};
  output[dims.output_batch] = {batch};
  output[dims.output_feature] = {batch_group, group, out};
  for (size_t s = 0; s < sizes.windows.size(); ++s) {
    MovedDim dim;
    if (sizes.windows[s].is_trivial())
      dim.operand = dim.result = add_factor(rule, x[dims.input[s]]);
    else
      dim = add_moved_dim(rule, x[dims.input[s]], y[dims.output[s]]);
    input[dims.input[s]] = {dim.operand};
    output[dims.output[s]] = {dim.result};
    kernel[dims.kernel[s]] = {add_factor(rule, w[dims.kernel[s]], FactorKind::need_replication)};
  }
  rule.operands = {dims_of(input), dims_of(kernel)};
  rule.results = {dims_of(output)};
  return rule;
}

// Group counts follow from local extents; where there is nothing to count, they stay.
Attributes localize(const OpCall& global, std::span<const TensorType> operands,
                    std::span<const TensorType> results) {
  const ConvolutionDims dims = convolution_dims(global.attributes);
  Attributes local = global.attributes;
  const Shape &x = operands[0].shape, &w = operands[1].shape;
  const int64_t kernel_in = w[dims.kernel_in], output_batch = results[0].shape[dims.output_batch];
  if (kernel_in > 0)
    local.set(Attr::feature_group_count, std::max<int64_t>(1, x[dims.input_feature] / kernel_in));
  if (output_batch > 0)
    local.set(Attr::batch_group_count, std::max<int64_t>(1, x[dims.input_batch] / output_batch));
  return local;
}

std::vector<Value> partition(PartitionContext& c) {
  Builder& b = c.builder();
  const OpCall& call = c.call();
  const ConvolutionDims dims = convolution_dims(call.attributes);
  std::vector<WindowDim> windows = convolution_sizes("convolution", call.attributes,
                                                     call.operands[0].shape, call.operands[1].shape)
                                       .windows;
  const Shape result = c.local_result_type(0).shape;
  Value x = c.operand(0), w = c.operand(1);
  const std::vector<TensorType> operands{b.type(x), b.type(w)}, results{c.local_result_type(0)};
  Attributes local = localize(call, operands, results);
  // Features beyond the logical ones must not meet: 0 * NaN is NaN.
  const Value zero = constant(b, 0.0, {b.dtype(x), {}});
  if (dims.feature_groups == 1) {
    x = clear_padding(b, x, cut_dim(c, 0, dims.input_feature), zero);
    w = clear_padding(b, w, cut_dim(c, 1, dims.kernel_in), zero);
  }
  for (size_t s = 0; s < windows.size(); ++s) {
    x = local_window(b, x, cut_dim(c, 0, dims.input[s]), windows[s], result[dims.output[s]],
                     {HaloFill::Kind::zero, {}});
  }
  set_windows(local, windows);
  return {b.emit(kConvolution, {x, w}, local)};
}

double exchange_bytes(const OpCall& call, std::span<const TensorType> results,
                      std::span<const AxisList> axes) {
  const FactorRule rule = factors(call, results);
  const CutShapes shapes(rule, axes);
  const ConvolutionSizes sizes = convolution_sizes("convolution", call.attributes,
                                                   call.operands[0].shape, call.operands[1].shape);
  return convolution_exchange(call, sizes, shapes, rule.operands[0],
                              shapes.local(results[0].shape, rule.results[0]));
}

std::vector<LinearSet> linear(const OpCall&) {
  return {{{0}, ReduceKind::sum}, {{1}, ReduceKind::sum}};
}

double flops(const OpCall& call, std::span<const TensorType> results) {
  const ConvolutionSizes sizes = convolution_sizes("convolution", call.attributes,
                                                   call.operands[0].shape, call.operands[1].shape);
  double taps = static_cast<double>(sizes.in);
  for (const WindowDim& dim : sizes.windows) taps *= static_cast<double>(dim.window);
  return 2 * taps * static_cast<double>(results[0].elements());
}

Attributes attributes_of(const Convolution& c) {
  Attributes a{{Attr::input_batch_dimension, c.input_batch},
               {Attr::input_feature_dimension, c.input_feature},
               {Attr::input_spatial_dimensions, c.input_spatial},
               {Attr::kernel_input_feature_dimension, c.kernel_input_feature},
               {Attr::kernel_output_feature_dimension, c.kernel_output_feature},
               {Attr::kernel_spatial_dimensions, c.kernel_spatial},
               {Attr::output_batch_dimension, c.output_batch},
               {Attr::output_feature_dimension, c.output_feature},
               {Attr::output_spatial_dimensions, c.output_spatial}};
  const auto set = [&](Attr key, const Ints& values) {
    if (!values.empty()) a.set(key, values);
  };
  set(Attr::window_strides, c.strides);
  set(Attr::padding_low, c.low);
  set(Attr::padding_high, c.high);
  set(Attr::base_dilations, c.base_dilations);
  set(Attr::window_dilations, c.dilations);
  set(Attr::window_reversal, c.reversal);
  if (c.feature_groups != 1) a.set(Attr::feature_group_count, c.feature_groups);
  if (c.batch_groups != 1) a.set(Attr::batch_group_count, c.batch_groups);
  return a;
}

std::vector<OpSample> samples() {
  auto sample = [](Shape x, Shape w, const Convolution& c, DType dtype = DType::f64) {
    return OpSample{{{dtype, x}, {dtype, w}}, attributes_of(c), {}, dtype == DType::f64};
  };
  Convolution one = Convolution::channels_last(1), two = Convolution::channels_last(2);
  Convolution same = one, strided = one, spread = one, odd = one, groups = one, batches = one,
              flipped = two, plane = two;
  same.same_padding({3});
  strided.strides = {2}, strided.low = {1}, strided.high = {1};
  spread.base_dilations = {2}, spread.dilations = {2}, spread.low = {2}, spread.high = {1};
  odd.strides = {2}, odd.base_dilations = {3}, odd.low = {-1}, odd.high = {2};
  groups.feature_groups = 2, groups.same_padding({2});
  batches.batch_groups = 2, batches.low = {1}, batches.high = {0};
  flipped.reversal = {1, 0}, flipped.low = {1, 0}, flipped.high = {1, 1};
  flipped.input_batch = 2, flipped.input_feature = 0, flipped.input_spatial = {1, 3};
  flipped.output_batch = 0, flipped.output_feature = 3, flipped.output_spatial = {2, 1};
  plane.same_padding({3, 2});
  Convolution depthwise = same, swapped = spread;
  depthwise.feature_groups = 3;
  swapped.kernel_input_feature = 2, swapped.kernel_output_feature = 1, swapped.strides = {3};
  return {sample({2, 8, 2}, {3, 2, 4}, same),
          sample({2, 6, 3}, {1, 3, 2}, one),
          sample({2, 8, 2}, {2, 2, 2}, strided),
          sample({1, 5, 2}, {3, 2, 2}, spread),
          sample({2, 4, 2}, {3, 2, 2}, odd),
          sample({2, 6, 4}, {2, 2, 6}, groups),
          sample({4, 4, 2}, {2, 2, 4}, batches),
          sample({2, 4, 2, 5}, {3, 2, 2, 2}, flipped),
          sample({1, 6, 4, 2}, {3, 2, 2, 2}, plane),
          sample({2, 6, 3}, {3, 1, 3}, depthwise),
          sample({2, 6, 2}, {3, 4, 2}, swapped),
          sample({2, 6, 2}, {3, 2, 2}, same, DType::s32),
          sample({2, 6, 2}, {3, 2, 2}, same, DType::bf16)};
}

}  // namespace

Convolution Convolution::channels_last(int spatial_dims) {
  Convolution c;
  for (int64_t d = 0; d < spatial_dims; ++d) {
    c.input_spatial.push_back(d + 1);
    c.output_spatial.push_back(d + 1);
    c.kernel_spatial.push_back(d);
  }
  c.input_feature = c.output_feature = spatial_dims + 1;
  c.kernel_input_feature = spatial_dims;
  c.kernel_output_feature = spatial_dims + 1;
  return c;
}

Convolution& Convolution::same_padding(const Ints& kernel) {
  low.clear();
  high.clear();
  for (int64_t size : kernel) {
    low.push_back((size - 1) / 2);
    high.push_back(size - 1 - low.back());
  }
  return *this;
}

const OpDef kConvolution{
    .name = "convolution",
    .attributes = {Attr::input_batch_dimension, Attr::input_feature_dimension,
                   Attr::input_spatial_dimensions, Attr::kernel_input_feature_dimension,
                   Attr::kernel_output_feature_dimension, Attr::kernel_spatial_dimensions,
                   Attr::output_batch_dimension, Attr::output_feature_dimension,
                   Attr::output_spatial_dimensions},
    .optional_attributes = {Attr::window_strides, Attr::padding_low, Attr::padding_high,
                            Attr::base_dilations, Attr::window_dilations, Attr::window_reversal,
                            Attr::feature_group_count, Attr::batch_group_count, Attr::dtype},
    .infer = infer,
    .eval = eval,
    .grad = grad,
    .factors = factors,
    .linear = linear,
    .localize = localize,
    .partition = partition,
    .exchange_bytes = exchange_bytes,
    .flops = flops,
    .samples = samples};

Value convolution(Builder& b, Value x, Value kernel, const Convolution& convolution,
                  std::optional<DType> dtype) {
  Attributes attributes = attributes_of(convolution);
  if (dtype && *dtype != b.dtype(x)) attributes.set(Attr::dtype, *dtype);
  return b.emit(kConvolution, {x, kernel}, attributes);
}

}  // namespace tessera::ops
