#include "models/spatial.h"

#include "core/autodiff/autodiff.h"
#include "core/base/strings.h"
#include "core/ops/convolution.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce_window.h"
#include "core/ops/structure.h"
#include "models/layers.h"

namespace tessera::models {
namespace {

constexpr double kEpsilon = 1e-5;

const std::vector<std::string> kVolume = {"batch", "depth", "height", "width", "features"};

// A convolution over the three spatial dims with kernels of `size` in each.
Value convolve3d(ParameterScope& scope, const std::string& name, Value x, int64_t size,
                 int64_t features, ops::Convolution convolution, double init_std) {
  Builder& b = scope.builder();
  const int64_t in = b.shape(x)[4];
  const Value kernel = scope.weight(name + ".kernel", {size, size, size, in, features},
                                    {"", "", "", "in", "out"}, {.std = init_std});
  return b.annotate(ops::convolution(b, x, kernel, convolution), kVolume);
}

// Each sample and feature to mean 0 and variance 1 over space, then gain and bias.
Value instance_norm(ParameterScope& scope, const std::string& name, Value x) {
  Builder& b = scope.builder();
  const Shape shape = b.shape(x);
  const double scale = 1.0 / static_cast<double>(shape[1] * shape[2] * shape[3]);
  auto mean = [&](Value v) {
    const Value sum = ops::scale(b, ops::reduce(b, v, {1, 2, 3}), scale);
    return ops::broadcast_in_dim(b, sum, shape, {0, 4});
  };
  const Value centred = ops::subtract(b, x, mean(x));
  const Value variance = mean(ops::multiply(b, centred, centred));
  const Value unit =
      ops::multiply(b, centred, ops::rsqrt(b, ops::add_scalar(b, variance, kEpsilon)));
  const Value gain = scope.weight(name + ".gain", {shape[4]}, {"norm"}, {.mean = 1});
  const Value bias = scope.weight(name + ".bias", {shape[4]}, {"norm"}, {});
  return ops::add(b, ops::multiply(b, unit, ops::broadcast_last(b, gain, shape)),
                  ops::broadcast_last(b, bias, shape));
}

Value relu(Builder& b, Value x) { return ops::maximum(b, x, ops::zeros_like(b, x)); }

Value double_convolution(ParameterScope& scope, const std::string& name, Value x, int64_t features,
                         double init_std) {
  for (const char* part : {".first", ".second"}) {
    ops::Convolution same = ops::Convolution::channels_last(3);
    same.same_padding({3, 3, 3});
    x = convolve3d(scope, name + part, x, 3, features, same, init_std);
    x = scope.builder().annotate(
        relu(scope.builder(), instance_norm(scope, name + part + ".norm", x)), kVolume);
  }
  return x;
}

Value half(Builder& b, Value x) { return ops::scale(b, x, 0.5); }

Value attention(ParameterScope& scope, const std::string& name, Value x,
                const ConformerConfig& config) {
  return self_attention(scope, name, layer_norm(scope, name + ".norm", x, kEpsilon),
                        {.heads = config.heads,
                         .kv_heads = config.heads,
                         .head_dim = config.embed / config.heads,
                         .causal = false,
                         .init_std = config.init_std,
                         .out_init_std = config.init_std});
}

Value feed_forward(ParameterScope& scope, const std::string& name, Value x,
                   const ConformerConfig& config) {
  return plain_mlp(scope, name, layer_norm(scope, name + ".norm", x, kEpsilon), config.mlp,
                   ops::silu, config.init_std, config.init_std);
}

Value convolution_module(ParameterScope& scope, const std::string& name, Value x,
                         const ConformerConfig& config) {
  Builder& b = scope.builder();
  const ScopeGuard guard(b, "convolution");
  const Value normed = layer_norm(scope, name + ".norm", x, kEpsilon);
  auto pointwise = [&](const std::string& part, Value v) {
    return linear(scope, cat(name, ".", part), v,
                  {.in_axes = {"embed"},
                   .out_axes = {"embed_out"},
                   .in = {config.embed},
                   .out = {config.embed},
                   .init_std = config.init_std});
  };
  const Value gated = b.annotate(
      ops::multiply(b, pointwise("value", normed), ops::logistic(b, pointwise("gate", normed))),
      {"batch", "length", "embed"});
  const Value kernel = scope.weight(name + ".kernel", {config.kernel, 1, config.embed},
                                    {"", "", "embed"}, {.std = config.init_std});
  ops::Convolution depthwise = ops::Convolution::channels_last(1);
  depthwise.same_padding({config.kernel});
  depthwise.feature_groups = config.embed;
  const Value mixed =
      b.annotate(ops::convolution(b, gated, kernel, depthwise), {"batch", "length", "embed"});
  const Value active = ops::silu(b, layer_norm(scope, name + ".mixed_norm", mixed, kEpsilon));
  return b.annotate(pointwise("output", active), {"batch", "length", "embed"});
}

// The loss against "target", and the gradients of everything declared.
void add_loss_and_gradients(Builder& b, const ParameterScope& scope, Value x, Value y,
                            std::vector<std::string> axes) {
  const Value target = b.input(InputKind::data, "target", b.type(y), std::move(axes));
  const Value error = ops::subtract(b, y, target);
  const Value loss = half(b, ops::reduce_all(b, ops::multiply(b, error, error)));
  std::vector<Value> wrt{x};
  std::vector<std::string> names{"x"};
  for (const ParameterSpec& spec : scope.specs()) {
    wrt.push_back(scope.value(spec.name));
    names.push_back(spec.name);
  }
  const std::vector<Value> cotangents = gradients(b, loss, wrt);
  b.output(loss, "loss");
  for (size_t i = 0; i < wrt.size(); ++i) b.output(cotangents[i], "d." + names[i]);
}

}  // namespace

Value unet3d(ParameterScope& scope, Value x, const UNet3dConfig& config) {
  Builder& b = scope.builder();
  const int64_t divisor = int64_t{1} << (config.levels - 1);
  for (int64_t extent : {config.depth, config.height, config.width})
    if (extent % divisor != 0)
      throw_config_error("unet3d: extent ", extent, " is not divisible by ", divisor, " for ",
                         config.levels, " levels");
  std::vector<Value> skips;
  int64_t features = config.base_features;
  for (int level = 0; level < config.levels; ++level, features *= 2) {
    const ScopeGuard guard(b, cat("down.", level));
    if (level > 0)
      x = b.annotate(
          ops::reduce_window(b, x, {.window = {1, 2, 2, 2, 1}, .strides = {1, 2, 2, 2, 1}},
                             ReduceKind::max),
          kVolume);
    x = double_convolution(scope, cat("down.", level), x, features, config.init_std);
    skips.push_back(x);
  }
  features /= 2;
  for (int level = config.levels - 2; level >= 0; --level) {
    const ScopeGuard guard(b, cat("up.", level));
    features /= 2;
    // Every element makes a 2 x 2 x 2 block: dilation 2 of the base, and windows of 2.
    ops::Convolution transposed = ops::Convolution::channels_last(3);
    transposed.base_dilations = {2, 2, 2};
    transposed.low = transposed.high = {1, 1, 1};
    x = convolve3d(scope, cat("up.", level, ".transposed"), x, 2, features, transposed,
                   config.init_std);
    x = b.annotate(ops::concatenate(b, {skips[static_cast<size_t>(level)], x}, 4), kVolume);
    x = double_convolution(scope, cat("up.", level), x, features, config.init_std);
  }
  return convolve3d(scope, "scores", x, 1, config.classes, ops::Convolution::channels_last(3),
                    config.init_std);
}

Value conformer_block(ParameterScope& scope, const std::string& name, Value x,
                      const ConformerConfig& config) {
  Builder& b = scope.builder();
  const ScopeGuard guard(b, name);
  auto residual = [&](Value change) {
    x = b.annotate(ops::add(b, x, change), {"batch", "length", "embed"});
  };
  residual(half(b, feed_forward(scope, name + ".first", x, config)));
  residual(attention(scope, name + ".attention", x, config));
  residual(convolution_module(scope, name + ".convolution", x, config));
  residual(half(b, feed_forward(scope, name + ".second", x, config)));
  return layer_norm(scope, name + ".norm", x, kEpsilon);
}

Graph unet3d_gradients(const UNet3dConfig& config, DType compute) {
  Graph graph;
  graph.name = "unet3d";
  Builder b(graph);
  ParameterScope scope(b, compute);
  const Value x =
      b.input(InputKind::data, "x",
              {compute, {config.batch, config.depth, config.height, config.width, config.channels}},
              {"batch", "depth", "height", "width", ""});
  const Value y = unet3d(scope, x, config);
  add_loss_and_gradients(b, scope, x, y, {"batch", "depth", "height", "width", ""});
  return graph;
}

Graph conformer_gradients(const ConformerConfig& config, int64_t batch, int64_t length, int blocks,
                          DType compute) {
  Graph graph;
  graph.name = "conformer";
  Builder b(graph);
  ParameterScope scope(b, compute);
  const Value x = b.input(InputKind::data, "x", {compute, {batch, length, config.embed}},
                          {"batch", "length", "embed"});
  Value y = x;
  for (int i = 0; i < blocks; ++i) y = conformer_block(scope, cat("block.", i), y, config);
  add_loss_and_gradients(b, scope, x, y, {"batch", "length", "embed"});
  return graph;
}

}  // namespace tessera::models
