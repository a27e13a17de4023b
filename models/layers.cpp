#include "models/layers.h"

#include <cmath>

#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/fp8_product.h"
#include "core/ops/norm.h"
#include "core/ops/structure.h"

namespace tessera::models {
namespace {

Shape joined(const Shape& a, const Shape& b) {
  Shape result = a;
  for (int64_t size : b) result.push_back(size);
  return result;
}

}  // namespace

Value linear(ParameterScope& scope, const std::string& name, Value x, const LinearOptions& options) {
  Builder& builder = scope.builder();
  std::vector<std::string> axes = options.in_axes;
  axes.insert(axes.end(), options.out_axes.begin(), options.out_axes.end());
  const Value weight = scope.weight(name + ".weight", joined(options.in, options.out), axes,
                                    {.std = options.init_std});
  ops::DotDims dims;
  for (int d = 0; d < options.in.rank(); ++d) {
    dims.lhs_contracting.push_back(2 + d);
    dims.rhs_contracting.push_back(d);
  }
  Value y = scope.is_fp8() ? ops::dot_general_fp8(builder, x, weight, dims) : ops::dot_general(builder, x, weight, dims);
  if (options.bias)
    y = ops::add(builder, y,
                 ops::broadcast_last(builder,
                                     scope.weight(name + ".bias", options.out, options.out_axes, {}),
                                     builder.shape(y)));
  std::vector<std::string> result_axes = {"batch", "length"};
  result_axes.insert(result_axes.end(), options.out_axes.begin(), options.out_axes.end());
  return builder.annotate(y, result_axes);
}

Value layer_norm(ParameterScope& scope, const std::string& name, Value x, double epsilon) {
  Builder& builder = scope.builder();
  const int64_t embed = builder.shape(x)[2];
  const Value gain = scope.weight(name + ".gain", {embed}, {"norm"}, {.mean = 1});
  const Value bias = scope.weight(name + ".bias", {embed}, {"norm"}, {});
  return builder.annotate(ops::layer_norm(builder, x, gain, bias, epsilon).y,
                          {"batch", "length", "embed"});
}

Value rms_norm(ParameterScope& scope, const std::string& name, Value x, double epsilon) {
  Builder& builder = scope.builder();
  const int64_t embed = builder.shape(x)[2];
  const Value gain = scope.weight(name + ".gain", {embed}, {"norm"}, {.mean = 1});
  return builder.annotate(ops::rms_norm(builder, x, gain, epsilon).y, {"batch", "length", "embed"});
}

Value self_attention(ParameterScope& scope, const std::string& name, Value x,
                     const AttentionOptions& options) {
  Builder& builder = scope.builder();
  const ScopeGuard guard(builder, "attention");
  const int64_t embed = builder.shape(x)[2];
  auto project = [&](const std::string& part, int64_t heads, const std::string& heads_axis) {
    return linear(scope, name + "." + part, x,
                  {.in_axes = {"embed"}, .out_axes = {heads_axis, "head_dim"}, .in = {embed},
                   .out = {heads, options.head_dim}, .bias = options.bias, .init_std = options.init_std});
  };
  Value query = project("query", options.heads, "heads");
  Value key = project("key", options.kv_heads, "kv_heads");
  const Value value = project("value", options.kv_heads, "kv_heads");
  if (options.rotary) {
    query = ops::rotary(builder, query, options.rope_theta);
    key = ops::rotary(builder, key, options.rope_theta);
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(options.head_dim));
  const Value attended =
      ops::attention(builder, query, key, value,
                     {.causal = options.causal, .scale = scale, .window = options.window},
                     {.distance_bias = options.distance_bias, .q_segments = options.segments,
                      .k_segments = options.segments})
          .out;
  builder.annotate(attended, {"batch", "length", "heads", "head_dim"});
  return linear(scope, name + ".output", attended,
                {.in_axes = {"heads", "head_dim"}, .out_axes = {"embed"},
                 .in = {options.heads, options.head_dim}, .out = {embed}, .bias = options.bias,
                 .init_std = options.out_init_std});
}

Value plain_mlp(ParameterScope& scope, const std::string& name, Value x, int64_t width,
                const std::function<Value(Builder&, Value)>& activation, double init_std,
                double out_init_std) {
  Builder& builder = scope.builder();
  const ScopeGuard guard(builder, "mlp");
  const int64_t embed = builder.shape(x)[2];
  const Value hidden = linear(scope, name + ".up", x,
                              {.in_axes = {"embed"}, .out_axes = {"mlp"}, .in = {embed}, .out = {width},
                               .bias = true, .init_std = init_std});
  return linear(scope, name + ".down", activation(builder, hidden),
                {.in_axes = {"mlp"}, .out_axes = {"embed"}, .in = {width}, .out = {embed}, .bias = true,
                 .init_std = out_init_std});
}

Value swiglu_mlp(ParameterScope& scope, const std::string& name, Value x, int64_t width,
                 double init_std, double out_init_std) {
  Builder& builder = scope.builder();
  const ScopeGuard guard(builder, "mlp");
  const int64_t embed = builder.shape(x)[2];
  auto widen = [&](const std::string& part) {
    return linear(scope, name + "." + part, x,
                  {.in_axes = {"embed"}, .out_axes = {"mlp"}, .in = {embed}, .out = {width},
                   .init_std = init_std});
  };
  const Value gate = widen("gate");
  const Value up = widen("up");
  return linear(scope, name + ".down", ops::multiply(builder, ops::silu(builder, gate), up),
                {.in_axes = {"mlp"}, .out_axes = {"embed"}, .in = {width}, .out = {embed},
                 .init_std = out_init_std});
}

}  // namespace tessera::models
