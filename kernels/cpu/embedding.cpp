#include "kernels/cpu/embedding.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

// One look-up of a row: sorting by (row, place) puts the places of a row in order.
struct Use {
  int64_t row;
  int64_t place;
  bool operator<(const Use& other) const {
    return row != other.row ? row < other.row : place < other.place;
  }
};

}  // namespace

template <typename T, typename Id>
void embedding(const EmbeddingShape& shape, const T* table, const Id* ids, T* out) {
  parallel_ranges(shape.ids, 32, [&](int64_t begin, int64_t end) {
    for (int64_t place = begin; place < end; ++place) {
      const int64_t row = static_cast<int64_t>(ids[place]) - shape.start;
      T* to = out + place * shape.width;
      if (row < 0 || row >= shape.rows) {
        std::fill(to, to + shape.width, T(0));
      } else {
        std::copy_n(table + row * shape.width, shape.width, to);
      }
    }
  });
}

int64_t embedding_grad_workspace(const EmbeddingShape& shape) {
  return shape.ids * static_cast<int64_t>(sizeof(Use));
}

template <typename T, typename Id>
void embedding_grad(const EmbeddingShape& shape, const Id* ids, const T* dy,
                    simd::Accumulator<T>* dtable, void* workspace) {
  using A = simd::Accumulator<T>;
  Use* uses = static_cast<Use*>(workspace);
  int64_t count = 0;
  for (int64_t place = 0; place < shape.ids; ++place) {
    const int64_t row = static_cast<int64_t>(ids[place]) - shape.start;
    if (row >= 0 && row < shape.rows) uses[count++] = {row, place};
  }
  std::sort(uses, uses + count);
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(shape.width, 1));
  parallel_ranges(shape.rows, grain, [&](int64_t begin, int64_t end) {
    const Use* use = std::lower_bound(uses, uses + count, Use{begin, 0});
    for (int64_t row = begin; row < end; ++row) {
      A* to = dtable + row * shape.width;
      if (use == uses + count || use->row != row) {
        std::fill(to, to + shape.width, A(0));
        continue;
      }
      simd::for_each_vector<A>(shape.width, [&](auto load, auto store) {
        store(to, load(dy + use->place * shape.width));
      });
      for (++use; use != uses + count && use->row == row; ++use) {
        simd::for_each_vector<A>(shape.width, [&](auto load, auto store) {
          store(to, load(to) + load(dy + use->place * shape.width));
        });
      }
    }
  });
}

#define TESSERA_EMBEDDING(T, Id)                                                  \
  template void embedding<T, Id>(const EmbeddingShape&, const T*, const Id*, T*); \
  template void embedding_grad<T, Id>(const EmbeddingShape&, const Id*, const T*, \
                                      simd::Accumulator<T>*, void*);
TESSERA_EMBEDDING(float, int32_t)
TESSERA_EMBEDDING(float, int64_t)
TESSERA_EMBEDDING(bfloat16, int32_t)
TESSERA_EMBEDDING(bfloat16, int64_t)
TESSERA_EMBEDDING(double, int32_t)
TESSERA_EMBEDDING(double, int64_t)

}  // namespace tessera::cpu
