// Why a tensor lies as it does: every append of axes to a dim, with its cause.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// A value of a graph or of a region below it (partitioner/regions.h: region_path).
struct Place {
  Place() = default;
  Place(Value value, std::string region = "") : region(std::move(region)), value(value) {}  // NOLINT

  std::string region;
  Value value;
  bool valid() const { return value.valid(); }
  auto operator<=>(const Place&) const = default;
};
// "w1" (%3), or %7 (dot_general) in region %12.body.
std::string describe(const Graph& graph, const Place& place);

struct Origin {
  int dim = 0;
  AxisList axes;         // appended to the minor end of the dim
  std::string rule;      // of an annotation: "parameter rule mlp -> model"; else empty
  Place source;          // of a propagation: the value that had the axes ...
  int instruction = -1;  // ... and the op, in the region of `region`, that ties the two together ...
  int factor = -1;       // ... through this factor of its rule
  std::string region;
  std::string edge;      // instead of op and factor: "is carried by while %12", "is in group 3 with"
};

struct Conflict {
  int instruction = -1;  // the op whose tensors disagree
  std::string text;      // what each side wanted
  int64_t bytes = 0;     // of the largest tensor concerned
  std::string region;    // of the op
  std::vector<Place> places = {};  // the tensors that disagree
};

class Origins {
 public:
  void add(const Place& place, Origin origin) {
    origins_[representative(place)].push_back(std::move(origin));
  }
  const std::vector<Origin>& of(const Place& place) const;

  // From here on `place` is the same tensor as `other` (a carried value of a loop); what was known
  // of it becomes known of that.
  void merge(const Place& place, const Place& other);

  // One line per append, each followed by the chain of causes:
  //   dim 1 {model} because dot_general %7 in block.0 shares factor j with "w1" (%3);
  //     "w1" (%3) dim 1 {model} because parameter rule mlp -> model
  // Then, where given, the conflicts at the ops on the way and at those that use the value:
  //   conflict at add %9: %7 lies [{x}]; %8 lies [{y}]
  std::string explain(const Graph& graph, const Place& place,
                      const std::vector<Conflict>& conflicts = {}) const;

 private:
  const Place& representative(const Place& place) const;

  std::map<Place, std::vector<Origin>> origins_;
  std::map<Place, Place> merged_;
};

}  // namespace tessera
