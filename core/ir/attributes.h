// Typed attributes of instructions. A key fixes the kind of its value, so printing, parsing, hashing
// and comparing are written once; which keys an op takes stands in its OpDef.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/mesh/sharding.h"
#include "core/types/host_tensor.h"
#include "core/types/reduce_kind.h"

namespace tessera {

class Graph;

enum class CompareDirection : uint8_t { eq, ne, lt, le, gt, ge };
std::string_view name_of(CompareDirection direction);

using Ints = std::vector<int64_t>;
using ConstTensor = std::shared_ptr<const HostTensor>;
using GraphRef = std::shared_ptr<const Graph>;
using Graphs = std::vector<GraphRef>;
using Shardings = std::vector<Sharding>;

using AttrValue =
    std::variant<bool, int64_t, double, std::string, Ints, DType, ReduceKind, CompareDirection,
                 ConstTensor, AxisList, Sharding, GraphRef, Graphs, Shardings>;

// The keys, named as in the StableHLO specification where it has them. The comment is the kind.
enum class Attr : uint8_t {
  // Shapes and dims.
  dimension,             // int    concatenate, iota, all_gather ... (the one dim concerned)
  dimensions,            // ints   broadcast_in_dim, transpose, reduce
  shape,                 // ints   result shape: broadcast_in_dim, reshape, iota, constant
  dtype,                 // dtype  result type: convert, iota, constant
  lhs_contracting, rhs_contracting, lhs_batch, rhs_batch,  // ints  dot_general
  start_indices, limit_indices, strides,                   // ints  slice
  edge_low, edge_high, interior,                           // ints  pad
  // Meaning.
  value,                 // tensor   constant
  scalar,                // double   constant filled with one number
  reduce_kind,           // reduce kind
  direction,             // compare direction
  name,                  // string   parameter
  index,                 // int      parameter number
  is_approximate,        // bool     gelu: tanh form
  causal,                // bool     attention
  scale,                 // double   attention
  window,                // int      attention: keys that a query sees at most, itself and those before it (0: all)
  bias_origin,           // int      attention: index of distance 0 in the bias by distance
  bias_gradient,         // bool     attention_grad: the bias by distance has a gradient too
  epsilon,               // double   norms, adamw
  theta,                 // double   rotary
  beta1, beta2,          // double   adamw
  weight_decay,          // double   adamw
  weight_decays,         // tensor   multi_adamw: f64[tensors]
  seed_sites,            // ints     multi_adamw: the random draw of each tensor
  start_counts,          // ints     multi_adamw: how many start operands each tensor has
  rate,                  // double   dropout
  valid_size,            // int      logical extent of a padded dim (vocabulary)
  seed_site,             // int      which random draw of the model this is
  vocab_dim,             // int      embedding gradient: rows of the table
  inverse,               // bool     rotary: rotate back
  seed,                  // int      random ops
  body,                  // graph    fusion, while
  // Windows: reduce_window, select_and_scatter, convolution; one entry per dim (convolution: per spatial dim).
  window_dimensions,             // ints
  window_strides,                // ints
  window_reversal,               // ints  0 or 1 per dim
  base_dilations,                // ints  zeros between the elements of the operand (1: none)
  window_dilations,              // ints
  padding_low,                   // ints  may be negative
  padding_high,                  // ints
  // Convolution: which dim of each tensor is what (StableHLO dimension_numbers).
  input_batch_dimension,         // int
  input_feature_dimension,       // int
  input_spatial_dimensions,      // ints
  kernel_input_feature_dimension,// int
  kernel_output_feature_dimension,// int
  kernel_spatial_dimensions,     // ints
  output_batch_dimension,        // int
  output_feature_dimension,      // int
  output_spatial_dimensions,     // ints
  feature_group_count,           // int
  batch_group_count,             // int
  // Gather, scatter, dynamic slices.
  offset_dims,                   // ints
  collapsed_slice_dims,          // ints
  operand_batching_dims,         // ints
  start_indices_batching_dims,   // ints
  start_index_map,               // ints
  index_vector_dim,              // int
  slice_sizes,                   // ints
  indices_are_sorted,            // bool
  update_window_dims,            // ints
  inserted_window_dims,          // ints
  input_batching_dims,           // ints
  scatter_indices_batching_dims, // ints
  scatter_dims_to_operand_dims,  // ints
  unique_indices,                // bool
  // Sort, top_k, scans, random bits, reduce_precision, custom calls.
  is_stable,                     // bool
  largest,                       // bool  top_k: the largest (default) or the smallest
  k,                             // int
  is_exclusive,                  // bool  scan: element i is not in its own prefix
  is_reverse,                    // bool  scan: from the last to the first
  exponent_bits,                 // int
  mantissa_bits,                 // int
  rng_algorithm,                 // string  philox, three_fry
  call_target,                   // string  custom_call
  rule,                          // string  custom_call: its factor rule, "([i, k], [k, j]) -> ([i, j]) {k=reduction}"
  result_types,                  // string  custom_call: "f32[8,4], s32[]"
  total_order,                   // bool  compare: floats by their bits, -NaN < -inf < ... < -0 < +0 < ... < NaN
  backend_config,                // string  custom_call: passed to the function as it is
  // Experts (core/ops/routing.h, core/ops/permute_tokens.h).
  score_function,        // string  top_k_routing: softmax, sigmoid
  normalize,             // bool  top_k_routing: a row's weights sum to 1
  group_count,           // int   expert_order: number of experts
  // Regions: graphs closed over their inputs (what they use from outside is passed as an operand).
  condition,                     // graph  while: the carried values -> pred[]
  branches,                      // graphs  case: by index
  callee,                        // graph  call, manual_computation
  combiner,                      // graph  reduce, scatter, sort ...: (x0, y0, x1, y1, ...) or (accumulator..., element...) -> scalars
  select,                        // graph  select_and_scatter
  trip_count,                    // int  while: known number of turns
  in_shardings,                  // shardings  manual_computation
  out_shardings,                 // shardings  manual_computation
  // Sharding and communication.
  axes,                  // axes     collectives, axis_index
  target_axes,           // axes     permute: relabel axes -> target_axes
  shift,                 // int      permute: by k places along axes
  wrap,                  // bool     permute: ring or open line
  split_dimension,       // int      all_to_all, all_slice, reduce_scatter
  concat_dimension,      // int      all_to_all, all_gather
  sharding,              // sharding reshard, sharding_constraint
  sources,               // ints     permute: by coordinate along axes, whose shard comes; -1: none
};

// The name and, by example value, the kind of every key: see attributes.cpp.
std::string_view name_of(Attr key);
std::optional<Attr> parse_attr(std::string_view name);
// Index of the alternative of AttrValue that `key` holds.
size_t kind_of(Attr key);

// A small ordered map from key to value.
class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<Attr, AttrValue>> entries) {
    for (const auto& [key, value] : entries) set(key, value);
  }

  void set(Attr key, AttrValue value);  // TESSERA_CHECKs the kind
  bool has(Attr key) const { return find(key) != nullptr; }
  const AttrValue* find(Attr key) const;

  template <typename T>
  const T& get(Attr key) const {
    const AttrValue* value = find(key);
    TESSERA_CHECK(value != nullptr, "missing attribute ", name_of(key));
    return std::get<T>(*value);
  }
  template <typename T>
  T get_or(Attr key, T fallback) const {
    const AttrValue* value = find(key);
    return value ? std::get<T>(*value) : fallback;
  }
  int64_t integer(Attr key) const { return get<int64_t>(key); }
  double number(Attr key) const { return get<double>(key); }
  bool flag(Attr key) const { return get_or<bool>(key, false); }
  const Ints& ints(Attr key) const { return get<Ints>(key); }

  const std::vector<std::pair<Attr, AttrValue>>& entries() const { return entries_; }
  bool operator==(const Attributes& other) const;
  size_t hash() const;

 private:
  std::vector<std::pair<Attr, AttrValue>> entries_;  // ordered by key
};

// `dimensions=[0,2]`; axis names need the mesh.
std::string print_attribute(Attr key, const AttrValue& value, const Mesh* mesh);
// Reads the value text for `key`; throws ConfigError.
AttrValue parse_attribute(Attr key, std::string_view text, const MeshPtr& mesh);

}  // namespace tessera
