// Convolutions as in StableHLO: any number of spatial dims in any order of dims, strides, padding,
// dilation of both sides, reversed kernels, feature groups and batch groups.
//
// Cut over space they exchange halos (core/ops/halo.h), and so do both gradients: that of the input
// is a convolution with strides and dilation changed over, that of the kernel an op of its own,
// because its loop over space is a reduction.
#pragma once

#include <optional>

#include "core/ir/builder.h"

namespace tessera::ops {

// Which dim of each tensor is what, and the windows; unset lists mean 1s, or 0s for padding.
struct Convolution {
  int64_t input_batch = 0, input_feature = 1;
  int64_t kernel_input_feature = 1, kernel_output_feature = 0;
  int64_t output_batch = 0, output_feature = 1;
  Ints input_spatial, kernel_spatial, output_spatial;
  Ints strides, low, high, base_dilations, dilations, reversal;
  int64_t feature_groups = 1, batch_groups = 1;

  // [batch, space..., feature] with kernels [space..., in, out].
  static Convolution channels_last(int spatial_dims);
  // Padding so that a stride of 1 keeps the extents, for kernels of these extents.
  Convolution& same_padding(const Ints& kernel);
};

// convolution(x, kernel) {dimension numbers, windows, groups, dtype?}: the result dtype is the
// operands' unless given.
extern const OpDef kConvolution;
Value convolution(Builder& b, Value x, Value kernel, const Convolution& convolution,
                  std::optional<DType> dtype = {});

// convolution_kernel_grad{..., window_dimensions}(x, dy) -> dkernel of the convolution with these
// attributes and kernel extents. One batch group only.
extern const OpDef kConvolutionKernelGrad;

}  // namespace tessera::ops
