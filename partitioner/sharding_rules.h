// How a job says where its tensors lie: a mesh, rules from a model's logical axes to mesh axes, and
// overrides for single tensors. Plain data; launch/config fills it from text, annotate reads it.
//
// Rules are tried in order, for each tensor anew. A rule applies when the tensor has a dim with
// that logical name which no earlier rule has placed, and none of the rule's mesh axes is in use in
// that tensor; otherwise the next rule is tried. So order is priority: with
//
//     {heads -> model}, {length -> model}
//
// a tensor [batch, length, heads, head_dim] puts `heads` on `model`, and [batch, length, embed],
// which has no heads, puts `length` there. A dim that no rule places is replicated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

struct MeshAxisConfig {
  std::string name;
  int64_t size = 1;  // after loading always >= 1; the -1 of a config file is resolved by then

  bool operator==(const MeshAxisConfig&) const = default;
};

struct AxisRule {
  std::string logical;  // batch, length, embed, heads, kv_heads, head_dim, mlp, vocab, ...
  // Major to minor. Empty means: replicate this dim, and try no later rule for it.
  std::vector<std::string> mesh_axes;
  // Where the dim is not a multiple of the axes' product: skip the rule (reported) instead of
  // padding the dim.
  bool if_divides = false;
  // The round of propagation from which on the placed dim spreads; smaller goes first.
  int64_t priority = 0;

  bool operator==(const AxisRule&) const = default;
};

struct ShardingOverride {
  std::string tensor_regex;  // ECMAScript; must match the whole tensor name
  // Per dim of the tensor the mesh axes, major to minor; as many entries as the tensor has dims.
  // "?" at the end of a dim's axes leaves it open: propagation may append more.
  std::vector<std::vector<std::string>> dims;
  int64_t priority = 0;  // of all its dims, as in AxisRule

  bool operator==(const ShardingOverride&) const = default;
};

// Tensors that are sharded together.
struct TensorGroup {
  std::vector<std::string> tensor_regexes;  // each must match a whole tensor name
  // All members get one and the same lying (shard_as); false: shardings only flow between them.
  bool is_strict = false;

  bool operator==(const TensorGroup&) const = default;
};

struct ShardingConfig {
  std::vector<MeshAxisConfig> axes;        // the mesh; the last axis varies fastest over ranks
  std::vector<AxisRule> parameter_rules;   // parameters, and gradients by default
  std::vector<AxisRule> activation_rules;  // named activations, and the batch
  // Optimizer state (moments, master weights). Empty: as the parameters.
  std::vector<AxisRule> optimizer_rules;
  std::vector<ShardingOverride> overrides;  // the first that matches wins, before any rule
  std::vector<TensorGroup> groups;

  // Reshards that no annotation asks for and that send more bytes than this from one device are
  // reported, and refused under --strict (implicit_reshards.h); 0: no limit.
  int64_t max_implicit_reshard_bytes = 0;
  // "off", "one_way" or "two_way" (collective_matmul.h); empty is off.
  std::string collective_matmul = {};

  bool operator==(const ShardingConfig&) const = default;

  // The rules that hold for optimizer state.
  const std::vector<AxisRule>& rules_of_optimizer() const {
    return optimizer_rules.empty() ? parameter_rules : optimizer_rules;
  }
};

}  // namespace tessera
