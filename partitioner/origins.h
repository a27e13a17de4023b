// Why a tensor lies as it does: every append of axes to a dim, with its cause.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

struct Origin {
  int dim = 0;
  AxisList axes;         // appended to the minor end of the dim
  std::string rule;      // of an annotation: "parameter rule mlp -> model"; else empty
  Value source;          // of a propagation: the value that had the axes ...
  int instruction = -1;  // ... and the op that ties the two together
  int factor = -1;       // through this factor of its rule
};

struct Conflict {
  int instruction = -1;  // the op whose tensors disagree
  std::string text;      // what each side wanted
  int64_t bytes = 0;     // of the largest tensor concerned
};

class Origins {
 public:
  void add(Value value, Origin origin) { origins_[value].push_back(std::move(origin)); }
  const std::vector<Origin>& of(Value value) const;

  // One line per append, each followed by the chain of causes:
  //   dim 1 {model} because dot_general %7 in block.0 shares factor j with "w1" (%3);
  //     "w1" (%3) dim 1 {model} because parameter rule mlp -> model
  std::string explain(const Graph& graph, Value value) const;

 private:
  std::map<Value, std::vector<Origin>> origins_;
};

}  // namespace tessera
