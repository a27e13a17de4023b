// The gradient of a table: the rows of dy summed by id.
#pragma once

#include "kernels/cuda/vocabulary/embedding.h"

namespace tessera::cuda {

int64_t embedding_grad_workspace(int64_t rows, int64_t count, int64_t width);

// dtable [rows, width] in f32: sums of the rows of dy [count, width] by id, each in an order fixed by the ids
// alone; zeros where a row has none. At most 2^31 - 1 ids and as many rows. T is float or bf16.
template <typename T, typename Id>
void embedding_grad(const TableRows<Id>& ids, const T* dy, int64_t width, float* dtable, void* workspace,
                    cudaStream_t stream);

}  // namespace tessera::cuda
