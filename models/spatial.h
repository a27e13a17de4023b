// Models that are cut over space or time: a 3-D U-Net and a Conformer block. Their convolutions
// exchange halos where a job's rules cut "depth", "height", "width" or "length".
#pragma once

#include "models/parameters.h"

namespace tessera::models {

// Çiçek et al. 2016, "3D U-Net": per level two 3x3x3 convolutions, each with an instance norm and a
// ReLU; 2x2x2 max pooling down, 2x2x2 transposed convolutions up, and the skip connections.
struct UNet3dConfig {
  int64_t batch = 1;
  int64_t depth = 8, height = 8, width = 8;  // each divisible by 2^(levels - 1)
  int64_t channels = 1, classes = 2;
  int64_t base_features = 4;  // of the first level; doubled by each next one
  int levels = 2;
  double init_std = 0.2;
};
// x [batch, depth, height, width, channels] -> scores [batch, depth, height, width, classes].
// Dims are named "batch", "depth", "height", "width", "features"; kernels' "in" and "out".
Value unet3d(ParameterScope& scope, Value x, const UNet3dConfig& config);

// Gulati et al. 2020, "Conformer": half a feed-forward, self-attention, a convolution module, half
// a feed-forward, a norm. The convolution's norm is a layer norm, which does not mix positions.
struct ConformerConfig {
  int64_t embed = 8, heads = 2, mlp = 16;
  int64_t kernel = 5;  // of the depthwise convolution over length
  double init_std = 0.2;
};
// x [batch, length, embed] -> the same.
Value conformer_block(ParameterScope& scope, const std::string& name, Value x,
                      const ConformerConfig& config);

// A graph with inputs "x" and "target" and outputs "loss" (half the squared error, summed) and the
// gradient of every parameter and of x ("d.x"), to plan or to test with.
Graph unet3d_gradients(const UNet3dConfig& config, DType compute);
Graph conformer_gradients(const ConformerConfig& config, int64_t batch, int64_t length, int blocks,
                          DType compute);

}  // namespace tessera::models
