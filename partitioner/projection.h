// A sharding seen through an op's factors, and back.
//
//     [(i j), k] with i=2, j=3 under [{x}, {y}] on <x=2, y=4>:  i {x}, j {}, k {y}
//
// A dim of several factors gives its axes to the major factor until that is full, then to the next;
// an axis that straddles a border is split: (i j) with i=2, j=4 under {z} on <z=4> is i {z:(1)2},
// j {z:(2)2}.
#pragma once

#include <vector>

#include "core/ir/factors.h"
#include "core/mesh/sharding.h"

namespace tessera {

// One list of axes per factor of a rule.
using FactorAxes = std::vector<AxisList>;

// A factor alone in its dim takes any axes: what does not divide is padded. Factors that share a dim
// must divide.

// The axes that `sharding` puts on each factor of one tensor; empty for factors it lacks. Axes that
// the factors cannot express (a part of 3 on a factor of 2) are left out, with all that is minor to
// them; `exact`, where given, tells whether nothing was.
FactorAxes project(const FactorRule& rule, const TensorFactors& tensor, const Sharding& sharding,
                   bool* exact = nullptr);

// The inverse: how a tensor lies when its factors are sharded so. Closed, not partial.
Sharding unproject(const MeshPtr& mesh, const TensorFactors& tensor, const FactorAxes& axes);

// Whether unproject loses nothing: in every dim of the tensor a factor is sharded only where those
// major to it are full, and every list divides its factor.
bool is_expressible(const FactorRule& rule, const TensorFactors& tensor, const FactorAxes& axes);

// The longest major part of `axes` whose size divides `size`.
AxisList dividing_prefix(const AxisList& axes, int64_t size);

// The longest major part of `axes` that may cut `factor`: all, where it is alone in its dim in every
// tensor, else what divides.
AxisList allowed_prefix(const FactorRule& rule, int factor, const AxisList& axes);

// The dim of `tensor` that has `factor`, or -1.
int dim_of_factor(const TensorFactors& tensor, int factor);

}  // namespace tessera
