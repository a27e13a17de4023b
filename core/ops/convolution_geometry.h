// The dims and loops of a convolution, for its OpDefs and kernels.
#pragma once

#include "core/ops/window.h"

namespace tessera::ops {

struct ConvolutionDims {
  int input_batch, input_feature, kernel_in, kernel_out, output_batch, output_feature;
  std::vector<int> input, kernel, output;  // spatial
  int64_t feature_groups, batch_groups;

  int spatial() const { return static_cast<int>(input.size()); }
};
ConvolutionDims convolution_dims(const Attributes& attributes);

// Extents of all loops.
struct ConvolutionSizes {
  int64_t batch;  // of the output
  int64_t batch_groups, feature_groups;
  int64_t in, out;  // features of one group
  std::vector<WindowDim> windows;
  Ints output;  // spatial
};

// Attributes of a convolution on shapes that are given; `windows` replaces theirs.
ConvolutionSizes convolution_sizes(std::string_view op, const Attributes& attributes,
                                   const Shape& input, const Shape& kernel);
Shape convolution_result(const Attributes& attributes, const ConvolutionSizes& sizes);

// Bytes of the halos of operand 0, its dims cut by `input` as `shapes` says, for devices with
// `output` elements of the output.
double convolution_exchange(const OpCall& call, const ConvolutionSizes& sizes,
                            const CutShapes& shapes, const TensorFactors& input,
                            const Shape& output);

// Calls body(input offset, kernel offset, output offset) for every product of the loop nest, in
// elements of row-major tensors.
template <typename Body>
void for_each_product(const Attributes& attributes, const ConvolutionSizes& sizes,
                      const Shape& input, const Shape& kernel, const Shape& output, Body body) {
  const ConvolutionDims dims = convolution_dims(attributes);
  const std::vector<int64_t> x = input.strides(), w = kernel.strides(), y = output.strides();
  const int rank = dims.spatial();
  // One (output position, window element) at a time: all that is left are features and batch.
  const auto at_tap = [&](int64_t x0, int64_t w0, int64_t y0) {
    for (int64_t n = 0; n < sizes.batch; ++n)
      for (int64_t bg = 0; bg < sizes.batch_groups; ++bg)
        for (int64_t g = 0; g < sizes.feature_groups; ++g)
          for (int64_t o = 0; o < sizes.out; ++o) {
            const int64_t out = (bg * sizes.feature_groups + g) * sizes.out + o;
            const int64_t xn = x0 + (bg * sizes.batch + n) * x[dims.input_batch] +
                               g * sizes.in * x[dims.input_feature];
            const int64_t wn = w0 + out * w[dims.kernel_out];
            const int64_t yn = y0 + n * y[dims.output_batch] + out * y[dims.output_feature];
            for (int64_t i = 0; i < sizes.in; ++i)
              body(xn + i * x[dims.input_feature], wn + i * w[dims.kernel_in], yn);
          }
  };
  const auto walk_dim = [&](auto& self, int d, int64_t x0, int64_t w0, int64_t y0) -> void {
    if (d == rank) return at_tap(x0, w0, y0);
    const auto s = static_cast<size_t>(d);
    for (int64_t q = 0; q < sizes.output[s]; ++q)
      for (int64_t k = 0; k < sizes.windows[s].window; ++k)
        if (const int64_t p = sizes.windows[s].source(q, k); p >= 0)
          self(self, d + 1, x0 + p * x[dims.input[s]], w0 + k * w[dims.kernel[s]],
               y0 + q * y[dims.output[s]]);
  };
  walk_dim(walk_dim, 0, 0, 0, 0);
}

}  // namespace tessera::ops
