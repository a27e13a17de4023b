#include "core/ops/convolution_geometry.h"

#include "core/ops/support.h"

namespace tessera::ops {
namespace {

std::vector<int> ints(const Attributes& attributes, Attr key) {
  const Ints& values = attributes.ints(key);
  return {values.begin(), values.end()};
}

int integer(const Attributes& attributes, Attr key) {
  return static_cast<int>(attributes.integer(key));
}

// The named dims are all dims of a tensor of this rank.
void check_numbers(std::string_view op, const Shape& shape, std::string_view what, int a, int b,
                   const std::vector<int>& spatial) {
  std::vector<int> named = spatial;
  named.push_back(a);
  named.push_back(b);
  std::sort(named.begin(), named.end());
  bool fits = static_cast<int>(named.size()) == shape.rank();
  for (size_t i = 0; fits && i < named.size(); ++i) fits = named[i] == static_cast<int>(i);
  require(fits, op, ": the dimension numbers of the ", what, " [", join(named, ","),
          "] are not the dims of ", shape);
}

}  // namespace

ConvolutionDims convolution_dims(const Attributes& a) {
  return {integer(a, Attr::input_batch_dimension),
          integer(a, Attr::input_feature_dimension),
          integer(a, Attr::kernel_input_feature_dimension),
          integer(a, Attr::kernel_output_feature_dimension),
          integer(a, Attr::output_batch_dimension),
          integer(a, Attr::output_feature_dimension),
          ints(a, Attr::input_spatial_dimensions),
          ints(a, Attr::kernel_spatial_dimensions),
          ints(a, Attr::output_spatial_dimensions),
          a.get_or<int64_t>(Attr::feature_group_count, 1),
          a.get_or<int64_t>(Attr::batch_group_count, 1)};
}

ConvolutionSizes convolution_sizes(std::string_view op, const Attributes& attributes,
                                   const Shape& input, const Shape& kernel) {
  const ConvolutionDims dims = convolution_dims(attributes);
  check_numbers(op, input, "input", dims.input_batch, dims.input_feature, dims.input);
  check_numbers(op, kernel, "kernel", dims.kernel_in, dims.kernel_out, dims.kernel);
  Shape sizes;
  Ints window;
  for (int s = 0; s < dims.spatial(); ++s) {
    sizes.push_back(input[dims.input[static_cast<size_t>(s)]]);
    window.push_back(kernel[dims.kernel[static_cast<size_t>(s)]]);
  }
  const int64_t batch = input[dims.input_batch], features = input[dims.input_feature],
                out = kernel[dims.kernel_out];
  const int64_t fg = dims.feature_groups, bg = dims.batch_groups;
  require(fg >= 1 && bg >= 1 && (fg == 1 || bg == 1), op, ": feature_group_count ", fg,
          " and batch_group_count ", bg, " must be positive, and one of them 1");
  require(features == fg * kernel[dims.kernel_in], op, ": input ", input, " has ", features,
          " features, kernel ", kernel, " takes ", fg, " groups of ", kernel[dims.kernel_in]);
  require(batch % bg == 0 && out % (fg * bg) == 0, op, ": batch ", batch, " of ", input, " and ",
          out, " output features of ", kernel, " must divide into ", bg, " batch groups and ", fg,
          " feature groups");
  ConvolutionSizes result{batch / bg,
                          bg,
                          fg,
                          kernel[dims.kernel_in],
                          out / (fg * bg),
                          windows_of(op, attributes, sizes, window),
                          {}};
  for (const WindowDim& dim : result.windows) result.output.push_back(dim.result());
  return result;
}

Shape convolution_result(const Attributes& attributes, const ConvolutionSizes& sizes) {
  const ConvolutionDims dims = convolution_dims(attributes);
  Shape shape(std::vector<int64_t>(static_cast<size_t>(dims.spatial() + 2), 0));
  shape[dims.output_batch] = sizes.batch;
  shape[dims.output_feature] = sizes.batch_groups * sizes.feature_groups * sizes.out;
  for (int s = 0; s < dims.spatial(); ++s)
    shape[dims.output[static_cast<size_t>(s)]] = sizes.output[static_cast<size_t>(s)];
  return shape;
}

double convolution_exchange(const OpCall& call, const ConvolutionSizes& sizes,
                            const CutShapes& shapes, const TensorFactors& input,
                            const Shape& output) {
  const ConvolutionDims dims = convolution_dims(call.attributes);
  const TensorType& x = call.operands[0];
  const Shape local = shapes.local(x.shape, input);
  ExchangeBytes bytes(size_of(x.dtype));
  for (size_t s = 0; s < sizes.windows.size(); ++s) {
    const CutDim cut = shapes.cut(x.shape, input, dims.input[s]);
    if (!cut.axes.empty() && !sizes.windows[s].is_trivial())
      bytes.add(cut, read_window(cut, sizes.windows[s], output[dims.output[s]]).source, local);
  }
  return bytes.total();
}

}  // namespace tessera::ops
