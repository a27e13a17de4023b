// Sums over rows whose order the shape fixes: each chunk of rows adds into a row of its own of
// `partials`, and the chunks' rows are then added in order. Used for gradients of per-column
// parameters (gamma, beta, bias).
#pragma once

#include "kernels/common/simd.h"
#include "kernels/cpu/parallel.h"

namespace tessera::cpu {

// At most 64 chunks: enough for the cores of a host, and partials stay below 1/64 of long inputs.
inline Chunks row_chunks(int64_t rows) { return chunks_of(rows, 16, 64); }

// out[c] = sum over chunks of partials[chunk * stride + c], for c in [0, columns).
template <typename Acc, typename Out>
void add_partials(const Acc* partials, int64_t chunks, int64_t stride, int64_t columns, Out* out) {
  parallel_ranges(columns, 512, [&](int64_t begin, int64_t end) {
    simd::for_each_vector<Acc>(end - begin, [&](auto load, auto store) {
      auto sum = load(partials + begin);
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        sum += load(partials + chunk * stride + begin);
      }
      store(out + begin, sum);
    });
  });
}

}  // namespace tessera::cpu
