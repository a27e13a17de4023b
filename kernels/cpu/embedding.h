// Rows of a table by id, and the sum of gradients by id.
//
// Floor: memory. The gather reads and writes each row once. The gradient reads dy once and writes
// the whole table: at GPT-2's 50,304 rows that dwarfs the rest, so zeros and sums go out in one
// pass.
#pragma once

#include <cstdint>

#include "kernels/common/simd.h"

namespace tessera::cpu {

struct EmbeddingShape {
  int64_t rows = 0;   // of the table (shard)
  int64_t width = 0;  // elements of a row
  int64_t ids = 0;
  int64_t start = 0;  // id of the table's row 0
};

// out [ids, width]; an id outside the table gives zeros. T is float, bfloat16 or double, Id int32_t
// or int64_t.
template <typename T, typename Id>
void embedding(const EmbeddingShape& shape, const T* table, const Id* ids, T* out);

int64_t embedding_grad_workspace(const EmbeddingShape& shape);

// dtable [rows, width] in f32 (f64) = sums of the rows of dy [ids, width] by id, each in the order
// of the ids.
template <typename T, typename Id>
void embedding_grad(const EmbeddingShape& shape, const Id* ids, const T* dy,
                    simd::Accumulator<T>* dtable, void* workspace);

}  // namespace tessera::cpu
