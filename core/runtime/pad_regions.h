// Padding as the sharded interpreter treats it: garbage, unless the lattice claims otherwise, and
// then the claim is checked.
#pragma once

#include <algorithm>
#include <functional>
#include <span>

#include "core/ir/graph.h"

namespace tessera {

// What stands in padding of which nothing is known: NaN, or a large odd integer.
double garbage(DType dtype);

// Calls with (row-major index, dim) for every element of the shard of `device` that lies beyond the
// logical extent of a dim; once per such dim.
void for_each_pad(const Shape& shard, const Sharding& sharding, const Shape& logical, int64_t device,
                  const std::function<void(int64_t, int)>& body);

// `number` in the padding of all dims, or of one.
void fill_padding(HostTensor& shard, const Sharding& sharding, const Shape& logical, int64_t device,
                  double number, int dim = -1);

// The first elements along every dim; `whole` itself where the shape is right already.
HostTensor cut_to(HostTensor whole, const Shape& logical);

// Checks what is claimed of one device's padding (InternalError) and plants garbage in the rest.
void settle_padding(HostTensor& shard, const Sharding& sharding, const Shape& logical,
                    int64_t device, const PadContents& claims);

}  // namespace tessera
