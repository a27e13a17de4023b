// How one tensor lies on a mesh.
//
// Notation (printed and parsed): one {...} per dim with its axes major to minor, `?` where the dim
// is open (propagation may append axes), `pN` a priority (0 first), then what else holds:
//
//     [{data}, {model, ?}p1] replicated{expert} partial{sum: stage}
//
// On another mesh than that of the program the text ends in it: `[{x}, {}] on <x=4>`.
//
// A tensor of global shape [8, 6] under [{data}, {}] on <data=4> has local shape [2, 6]; under
// `partial{sum: data}` each device holds an addend of the full size, and the value is their sum.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "core/mesh/mesh.h"
#include "core/types/reduce_kind.h"
#include "core/types/shape.h"

namespace tessera {

struct DimSharding {
  AxisList axes;         // major to minor
  bool open = false;     // may be sharded further by propagation
  int priority = 0;      // user priority of propagation from this dim; smaller goes first
  bool operator==(const DimSharding&) const = default;
};

class Sharding {
 public:
  Sharding() = default;
  Sharding(MeshPtr mesh, int rank, bool open = false);  // no axis anywhere: replicated

  MeshPtr mesh;
  std::vector<DimSharding> dims;
  AxisList replicated;      // axes along which propagation must not shard this tensor
  AxisList partial;         // unreduced over these axes ...
  ReduceKind partial_kind = ReduceKind::sum;  // ... with this combiner

  int rank() const { return static_cast<int>(dims.size()); }
  bool is_partial() const { return !partial.empty(); }
  bool is_fully_replicated() const;  // no axis on any dim, not partial
  // Axes on any dim, or partial.
  AxisList used_axes() const;
  // Number of devices that hold the same shard.
  int64_t replication() const;

  // The same lying, whatever is open, prioritised or pinned.
  bool same_layout(const Sharding& other) const;
  bool operator==(const Sharding&) const;
  // Whether it is for this mesh, or for an equal one. (A sharding without a mesh is.)
  bool is_for(const Mesh& other) const { return !mesh || *mesh == other; }
  // A copy without openness, priorities and explicit replicated axes.
  Sharding closed() const;
  Sharding without_partial() const;

  // The first dim that its axes do not divide, or -1.
  int indivisible_dim(const Shape& global) const;
  // Shape of one shard; a dim that its axes do not divide is rounded up: 5 over 4 devices is 2 each
  // (2, 2, 1 and 0 valid elements).
  Shape local_shape(const Shape& global) const;
  // The smallest shape, at least `global`, that the axes divide.
  Shape padded_shape(const Shape& global) const;
  // Where the shard of `device` starts in the global tensor, in elements per dim; at or beyond its
  // extent where the shard is all padding.
  std::vector<int64_t> shard_start(const Shape& global, int64_t device) const;

  // Throws ConfigError where an axis is used twice or a sub-axis is not maximal.
  void verify() const;
};

std::ostream& operator<<(std::ostream& out, const Sharding& sharding);  // without its mesh
// With its mesh, where it is not for `home`.
std::string print_sharding(const Sharding& sharding, const Mesh* home);
// Reads the print, over `mesh` where it names no other; throws ConfigError with the text and the
// place.
Sharding parse_sharding(const MeshPtr& mesh, std::string_view text);

}  // namespace tessera
