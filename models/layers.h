// The layers of models over sequences. Each names the dims of its parameters and of the activations that
// matter, and knows nothing of meshes.
#pragma once

#include <functional>
#include <string>

#include "models/model_config.h"
#include "models/parameters.h"

namespace tessera::models {

// x [batch, length, in] . weight [in, out...] + bias [out...] -> [batch, length, out...]
struct LinearOptions {
  std::vector<std::string> in_axes;   // names of the contracted dims, e.g. {"embed"}
  std::vector<std::string> out_axes;  // names of the new dims, e.g. {"heads", "head_dim"}
  Shape in, out;                      // their sizes
  bool bias = false;
  double init_std = 0.02;
};
Value linear(ParameterScope& scope, const std::string& name, Value x, const LinearOptions& options);

// [batch, length, embed] -> the same; gain and bias over embed.
Value layer_norm(ParameterScope& scope, const std::string& name, Value x, double epsilon);
Value rms_norm(ParameterScope& scope, const std::string& name, Value x, double epsilon);

struct AttentionOptions {
  int64_t heads, kv_heads, head_dim;
  bool bias = false;
  bool causal = true;  // false: every position sees all
  bool rotary = false;
  double rope_theta = 10000;
  double init_std = 0.02, out_init_std = 0.02;
  int64_t window = 0;     // with causal: keys that a query sees, itself included; 0: all
  Value distance_bias{};  // [heads, n] by query - key position, see core/ops/attention.h
  Value segments{};       // s32 [batch, length]: positions of one segment see each other
};
// Self-attention, [batch, length, embed] -> [batch, length, embed].
Value self_attention(ParameterScope& scope, const std::string& name, Value x,
                     const AttentionOptions& options);

// activation(x W1 + b1) W2 + b2
Value plain_mlp(ParameterScope& scope, const std::string& name, Value x, int64_t width,
                const std::function<Value(Builder&, Value)>& activation, double init_std,
                double out_init_std);
// (silu(x Wg) * (x Wu)) Wd   (Shazeer 2020, "GLU Variants Improve Transformer")
Value swiglu_mlp(ParameterScope& scope, const std::string& name, Value x, int64_t width,
                 double init_std, double out_init_std);

}  // namespace tessera::models
