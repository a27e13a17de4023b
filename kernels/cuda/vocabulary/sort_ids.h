// Ids sorted by the row of the table that they name, and by place among equals.
#pragma once

#include "kernels/cuda/vocabulary/embedding.h"

namespace tessera::cuda {

// [count] each, in device memory: the rows in order, `rows` for ids outside of the table (last), and the place in
// `ids` that each stood at.
struct SortedIds {
  const uint32_t *rows = nullptr, *places = nullptr;
};

// At most 2^31 - 1 ids and as many rows.
int64_t sort_ids_workspace(int64_t rows, int64_t count);
template <typename Id>
SortedIds sort_ids(const TableRows<Id>& ids, void* workspace, cudaStream_t stream);

}  // namespace tessera::cuda
