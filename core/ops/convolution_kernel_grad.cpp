// The gradient of a convolution's kernel: a product summed over batch and space. Each device sums
// over its own part of dy; of x it reads what that part's windows do.
#include "core/ops/convolution.h"
#include "core/ops/convolution_geometry.h"
#include "core/ops/structure.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

constexpr std::string_view kName = "convolution_kernel_grad";

Shape kernel_shape(const OpCall& call) {
  const ConvolutionDims dims = convolution_dims(call.attributes);
  const Ints& window = call.attributes.ints(Attr::window_dimensions);
  require(window.size() == dims.kernel.size(), kName, ": window [", join(window, ","), "] for ",
          dims.kernel.size(), " spatial dims");
  const Shape &x = call.operands[0].shape, &dy = call.operands[1].shape;
  require(x.rank() == dims.spatial() + 2 && dy.rank() == x.rank() && dims.input_feature >= 0 &&
              dims.input_feature < x.rank() && dims.output_feature >= 0 &&
              dims.output_feature < x.rank(),
          kName, ": dimension numbers do not fit ", call.operands[0], " and ", call.operands[1]);
  Shape kernel(std::vector<int64_t>(static_cast<size_t>(x.rank()), 1));
  require(x[dims.input_feature] % dims.feature_groups == 0, kName, ": ", x[dims.input_feature],
          " features of ", call.operands[0], " in ", dims.feature_groups, " groups");
  kernel[dims.kernel_in] = x[dims.input_feature] / dims.feature_groups;
  kernel[dims.kernel_out] = dy[dims.output_feature];
  for (size_t s = 0; s < window.size(); ++s) kernel[dims.kernel[s]] = window[s];
  return kernel;
}

std::vector<TensorType> infer(const OpCall& call) {
  check_operand_count(kName, call, 2);
  const TensorType &x = call.operands[0], &dy = call.operands[1];
  require(x.dtype == dy.dtype && x.dtype != DType::pred, kName,
          ": operands must be numbers of one type, got ", x, " and ", dy);
  const Shape kernel = kernel_shape(call);
  const ConvolutionSizes sizes = convolution_sizes(kName, call.attributes, x.shape, kernel);
  const Shape output = convolution_result(call.attributes, sizes);
  require(sizes.batch_groups == 1 && output == dy.shape, kName, ": a convolution of ", x,
          " with a kernel ", kernel, " gives ", output, ", not dy ", dy);
  return {{call.attributes.get_or<DType>(Attr::dtype, x.dtype), kernel}};
}

template <typename D>
void accumulate(const OpCall& call, const HostTensor& x, const HostTensor& dy, HostTensor& dw) {
  const ConvolutionSizes sizes = convolution_sizes(kName, call.attributes, x.shape(), dw.shape());
  const Elements<D> input = elements_of<D>(x), output = elements_of<D>(dy);
  Elements<D> kernel(static_cast<size_t>(dw.elements()), D(0));
  for_each_product(call.attributes, sizes, x.shape(), dw.shape(), dy.shape(),
                   [&](int64_t i, int64_t k, int64_t o) { kernel[k] += input[i] * output[o]; });
  set_elements<D>(dw, kernel);
}

void eval(const OpCall& call, std::span<const HostTensor* const> x, std::span<HostTensor> y) {
  const DType dtype = call.operands[0].dtype;
  if (is_float(dtype))
    accumulate<double>(call, *x[0], *x[1], y[0]);
  else if (dtype == DType::c64)
    accumulate<std::complex<double>>(call, *x[0], *x[1], y[0]);
  else
    accumulate<uint64_t>(call, *x[0], *x[1], y[0]);
}

FactorRule factors(const OpCall& call, std::span<const TensorType> results) {
  const ConvolutionDims dims = convolution_dims(call.attributes);
  const Shape &x = call.operands[0].shape, &dy = call.operands[1].shape, &w = results[0].shape;
  const ConvolutionSizes sizes = convolution_sizes(kName, call.attributes, x, w);
  FactorRule rule;
  std::vector<std::vector<int>> input(static_cast<size_t>(x.rank())), kernel = input,
                                                                      output = input;
  const int batch = add_factor(rule, sizes.batch, FactorKind::reduction);
  const int group = add_factor(rule, sizes.feature_groups);
  const int out = add_factor(rule, sizes.out), in = add_factor(rule, sizes.in);
  input[dims.input_batch] = output[dims.output_batch] = {batch};
  input[dims.input_feature] = {group, in};
  output[dims.output_feature] = {group, out};
  kernel[dims.kernel_in] = {in};
  kernel[dims.kernel_out] = {group, out};
  for (size_t s = 0; s < sizes.windows.size(); ++s) {
    const MovedDim dim =
        add_moved_dim(rule, x[dims.input[s]], dy[dims.output[s]], FactorKind::reduction);
    input[dims.input[s]] = {dim.operand};
    output[dims.output[s]] = {dim.result};
    kernel[dims.kernel[s]] = {add_factor(rule, w[dims.kernel[s]], FactorKind::need_replication)};
  }
  rule.operands = {dims_of(input), dims_of(output)};
  rule.results = {dims_of(kernel)};
  return rule;
}

std::vector<Value> partition(PartitionContext& c) {
  Builder& b = c.builder();
  const OpCall& call = c.call();
  const ConvolutionDims dims = convolution_dims(call.attributes);
  std::vector<WindowDim> windows =
      convolution_sizes(kName, call.attributes, call.operands[0].shape, c.result_types()[0].shape)
          .windows;
  Value x = c.operand(0), dy = c.operand(1);
  Attributes local = call.attributes;
  const Value zero = constant(b, 0.0, {b.dtype(x), {}});
  // What is summed over must hold nothing but elements: 0 * NaN is NaN.
  x = clear_padding(b, x, cut_dim(c, 0, dims.input_batch), zero);
  dy = clear_padding(b, dy, cut_dim(c, 1, dims.output_batch), zero);
  for (size_t s = 0; s < windows.size(); ++s) {
    const CutDim cut = cut_dim(c, 0, dims.input[s]);
    const CutDim result = cut_dim(c, 1, dims.output[s]);
    dy = clear_padding(b, dy, result, zero);
    if (windows[s].is_trivial() && cut.shard == result.shard)
      x = clear_padding(b, x, cut, zero);
    else
      x = local_window(b, x, cut, windows[s], result.shard, {HaloFill::Kind::zero, {}});
  }
  set_windows(local, windows);
  local.set(Attr::feature_group_count,
            std::max<int64_t>(
                1, b.shape(x)[dims.input_feature] / c.local_result_type(0).shape[dims.kernel_in]));
  return {b.emit(kConvolutionKernelGrad, {x, dy}, local)};
}

double exchange_bytes(const OpCall& call, std::span<const TensorType> results,
                      std::span<const AxisList> axes) {
  const FactorRule rule = factors(call, results);
  const CutShapes shapes(rule, axes);
  const ConvolutionSizes sizes =
      convolution_sizes(kName, call.attributes, call.operands[0].shape, results[0].shape);
  return convolution_exchange(call, sizes, shapes, rule.operands[0],
                              shapes.local(call.operands[1].shape, rule.operands[1]));
}

std::vector<LinearSet> linear(const OpCall&) {
  return {{{0}, ReduceKind::sum}, {{1}, ReduceKind::sum}};
}

double flops(const OpCall& call, std::span<const TensorType> results) {
  const ConvolutionDims dims = convolution_dims(call.attributes);
  return 2 * window_taps(call.attributes) *
         static_cast<double>(results[0].shape[dims.kernel_in] * call.operands[1].elements());
}

// The convolutions' own samples, as far as they have one batch group.
std::vector<OpSample> samples() {
  std::vector<OpSample> samples;
  for (const OpSample& sample : kConvolution.samples()) {
    const ConvolutionDims dims = convolution_dims(sample.attributes);
    if (dims.batch_groups > 1) continue;
    const OpCall call{sample.operands, sample.attributes};
    OpSample own = sample;
    own.differentiable = false;
    own.operands[1] = kConvolution.infer(call)[0];
    Ints window;
    for (int d : dims.kernel) window.push_back(sample.operands[1].shape[d]);
    own.attributes.set(Attr::window_dimensions, window);
    samples.push_back(std::move(own));
  }
  return samples;
}

}  // namespace

const OpDef kConvolutionKernelGrad{
    .name = kName,
    .attributes = {Attr::window_dimensions, Attr::input_batch_dimension,
                   Attr::input_feature_dimension, Attr::input_spatial_dimensions,
                   Attr::kernel_input_feature_dimension, Attr::kernel_output_feature_dimension,
                   Attr::kernel_spatial_dimensions, Attr::output_batch_dimension,
                   Attr::output_feature_dimension, Attr::output_spatial_dimensions},
    .optional_attributes = {Attr::window_strides, Attr::padding_low, Attr::padding_high,
                            Attr::base_dilations, Attr::window_dilations, Attr::window_reversal,
                            Attr::feature_group_count, Attr::batch_group_count, Attr::dtype},
    .infer = infer,
    .eval = eval,
    .factors = factors,
    .linear = linear,
    .partition = partition,
    .exchange_bytes = exchange_bytes,
    .partition_always = true,
    .pad_needs = no_pad_needs,
    .flops = flops,
    .samples = samples};

}  // namespace tessera::ops
