// Which ways of computing an op in shards are worth a look. Private to choose_op_shardings.
#pragma once

#include <span>
#include <vector>

#include "partitioner/op_layout.h"

namespace tessera {

// How an operand lies, or how a result is wanted.
struct TensorWish {
  int tensor = 0;  // operands first, then results; an operand may come with several wishes
  const TensorFactors* factors = nullptr;
  const Sharding* sharding = nullptr;
  int64_t bytes = 0;
};

// Legal factor axes made from the wishes, at most 64, none twice: all wishes together, largest
// first; each tensor first; each (factor, axes) first, left out, and alone; its prefixes; each
// tensor alone; none. The last is always there.
std::vector<FactorAxes> op_sharding_candidates(const OpRules& rules,
                                               std::span<const TensorWish> wishes);

}  // namespace tessera
