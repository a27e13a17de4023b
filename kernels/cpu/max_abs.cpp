#include "kernels/cpu/max_abs.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

Chunks chunks_for(int64_t n) { return chunks_of(n, 16384, 4096); }

template <typename T>
using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;

template <typename B>
B largest(int64_t n, const B* x) {
  constexpr B kSize = static_cast<B>(~B(0)) >> 1;  // all but the sign
  B found = 0;
  for (int64_t i = 0; i < n; ++i) found = std::max<B>(found, x[i] & kSize);
  return found;
}

}  // namespace

int64_t max_abs_workspace(int64_t n) { return chunks_for(n).count() * static_cast<int64_t>(sizeof(uint64_t)); }

template <typename T>
T max_abs(int64_t n, const T* x, void* workspace) {
  using B = Bits<T>;
  const Chunks chunks = chunks_for(n);
  B* const parts = static_cast<B*>(workspace);
  parallel_for(chunks.count(), [&](int64_t c) {
    parts[c] = largest(chunks.end(c) - chunks.begin(c), reinterpret_cast<const B*>(x) + chunks.begin(c));
  });
  return std::bit_cast<T>(largest(chunks.count(), parts));
}

template float max_abs(int64_t, const float*, void*);
template bfloat16 max_abs(int64_t, const bfloat16*, void*);
template double max_abs(int64_t, const double*, void*);

}  // namespace tessera::cpu
