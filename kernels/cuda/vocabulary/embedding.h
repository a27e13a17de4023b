// Rows of a table by id.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// Row ids[i] - *start of a table of `rows` rows (start in device memory; null: 0).
template <typename Id>
struct TableRows {
  int64_t rows = 0, count = 0;  // count ids
  const Id* ids = nullptr;
  const int64_t* start = nullptr;
};

// out [count, row_bytes] = the table's rows, zeros where an id lies outside the table. `element_bytes` (1, 2, 4, 8)
// is what table and out are aligned to. Id is int32_t or int64_t.
template <typename Id>
void embedding(const TableRows<Id>& rows, const void* table, int64_t row_bytes, int64_t element_bytes, void* out,
               cudaStream_t stream);

}  // namespace tessera::cuda
