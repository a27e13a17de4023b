// A product added to what is there already: how gradients of microbatches are added up without a
// buffer for each product (beta = 1 of a matrix product). Made by the pass accumulate_products, after
// localize; models and autodiff write add(acc, dot_general(lhs, rhs)).
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// dot_general_add{attributes of dot_general}(acc, lhs, rhs) -> acc + dot_general(lhs, rhs), of acc's
// type: floats only. The result may lie over acc.
extern const OpDef kDotGeneralAdd;

}  // namespace tessera::ops
