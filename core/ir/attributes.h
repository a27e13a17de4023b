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

using AttrValue = std::variant<bool, int64_t, double, std::string, Ints, DType, ReduceKind,
                               CompareDirection, ConstTensor, AxisList, Sharding, GraphRef>;

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
  epsilon,               // double   norms, adamw
  theta,                 // double   rotary
  beta1, beta2,          // double   adamw
  weight_decay,          // double   adamw
  valid_size,            // int      logical extent of a padded dim (vocabulary)
  seed_site,             // int      which random draw of the model this is
  vocab_dim,             // int      embedding gradient: rows of the table
  inverse,               // bool     rotary: rotate back
  seed,                  // int      random ops
  body,                  // graph    fusion
  // Sharding and communication.
  axes,                  // axes     collectives, axis_index
  target_axes,           // axes     permute: relabel axes -> target_axes
  shift,                 // int      permute: by k places along axes
  wrap,                  // bool     permute: ring or open line
  split_dimension,       // int      all_to_all, all_slice, reduce_scatter
  concat_dimension,      // int      all_to_all, all_gather
  sharding,              // sharding reshard, sharding_constraint
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
