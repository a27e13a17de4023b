// Table look-up and its gradient.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// embedding(table [V,E], ids [...] integers, start?) -> [...,E]. Row ids - start; ids outside the
// table give zeros, so that shards of the table sum to the whole.
extern const OpDef kEmbedding;
Value embedding(Builder& b, Value table, Value ids);

// embedding_grad{vocab_dim = V}(ids [...], dy [...,E], start?) -> [V,E], f32 or f64: the rows of dy
// summed by id.
extern const OpDef kEmbeddingGrad;
Value embedding_grad(Builder& b, Value ids, Value dy, int64_t vocab_dim);

}  // namespace tessera::ops
