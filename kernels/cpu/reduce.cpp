#include "kernels/cpu/reduce.h"

#include <limits>

#include "core/base/error.h"
#include "kernels/cpu/parallel.h"

namespace tessera::cpu {
namespace {

struct Sum {
  template <typename A>
  static constexpr A identity() {
    return A(0);
  }
  template <typename V>
  TESSERA_INLINE V combine(V a, V b) {
    return a + b;
  }
};
struct Product {
  template <typename A>
  static constexpr A identity() {
    return A(1);
  }
  template <typename V>
  TESSERA_INLINE V combine(V a, V b) {
    return a * b;
  }
};
struct Max {
  template <typename A>
  static constexpr A identity() {
    return -std::numeric_limits<A>::infinity();
  }
  template <typename V>
  TESSERA_INLINE V combine(V a, V b) {
    return simd::max_nan(a, b);
  }
};
struct Min {
  template <typename A>
  static constexpr A identity() {
    return std::numeric_limits<A>::infinity();
  }
  template <typename V>
  TESSERA_INLINE V combine(V a, V b) {
    return simd::min_nan(a, b);
  }
};

// The chunks that `count` is cut into: enough for a host's cores where outer and inner give too few
// tasks, and none otherwise.
constexpr int64_t kColumns = 512;
Chunks count_chunks(const ReduceShape& shape) {
  const int64_t tasks = shape.outer * ((shape.inner + kColumns - 1) / kColumns);
  if (tasks >= 64) return {shape.count, std::max<int64_t>(shape.count, 1)};
  const int64_t smallest = std::max<int64_t>(1, 16384 / std::min(shape.inner, kColumns));
  return chunks_of(shape.count, smallest, 64);
}

// All lanes by a fixed tree, for any combiner.
template <typename Op, typename V>
TESSERA_INLINE auto combine_lanes(V value) {
  using A = simd::LaneOf<V>;
  constexpr int kCount = simd::kLanes<A>;
  for (int width = kCount / 2; width > 0; width /= 2) {
    alignas(64) A lanes[kCount];
    simd::store(lanes, value);
    V shifted = value;
    for (int i = 0; i < width; ++i) shifted[i] = lanes[i + width];
    value = Op::combine(value, shifted);
  }
  return value[0];
}

template <typename Op, typename In>
simd::Accumulator<In> reduce_run(int64_t count, const In* in) {
  using A = simd::Accumulator<In>;
  constexpr int64_t kL = simd::kLanes<A>;
  simd::Vec<A> chains[4];
  for (auto& chain : chains) chain = simd::broadcast(Op::template identity<A>());
  int64_t i = 0;
  for (; i + 4 * kL <= count; i += 4 * kL) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) chains[c] = Op::combine(chains[c], simd::load(in + i + c * kL));
  }
  for (; i < count; i += kL) {
    chains[0] =
        Op::combine(chains[0], simd::load_first(in + i, count - i, Op::template identity<A>()));
  }
  return combine_lanes<Op>(
      Op::combine(Op::combine(chains[0], chains[1]), Op::combine(chains[2], chains[3])));
}

// Rows [begin, end) of one [count, inner] slab into out, for columns [0, width).
template <typename Op, typename In, typename Out>
void reduce_columns(int64_t begin, int64_t end, int64_t inner, int64_t width, const In* in,
                    Out* out) {
  using A = simd::Accumulator<In>;
  constexpr int64_t kL = simd::kLanes<A>, kWide = 8;
  int64_t done = 0;
  // Eight vectors of a row at a time: whole stretches of lines, one chain of sums each.
  for (; done + kWide * kL <= width; done += kWide * kL) {
    simd::Vec<A> values[kWide];
    for (auto& value : values) value = simd::broadcast(Op::template identity<A>());
    for (int64_t row = begin; row < end; ++row) {
      const In* from = in + row * inner + done;
#pragma GCC unroll 8
      for (int64_t c = 0; c < kWide; ++c) {
        values[c] = Op::combine(values[c], simd::load(from + c * kL));
      }
    }
    for (int64_t c = 0; c < kWide; ++c) simd::store(out + done + c * kL, values[c]);
  }
  in += done;
  out += done;
  simd::for_each_vector<A>(width - done, [&](auto load, auto store) {
    auto value = simd::broadcast(Op::template identity<A>());
    for (int64_t row = begin; row < end; ++row) {
      value = Op::combine(value, load(in + row * inner));
    }
    store(out, value);
  });
}

template <typename Op, typename In, typename Out>
void reduce_with(const ReduceShape& shape, const In* in, Out* out, void* workspace) {
  using A = simd::Accumulator<In>;
  const Chunks chunks = count_chunks(shape);
  const Chunks columns{shape.inner, kColumns};
  const int64_t pieces = std::max<int64_t>(chunks.count(), 1);
  A* partials = static_cast<A*>(workspace);  // [pieces, outer, inner]
  const auto run_task = [&](int64_t task) {
    const int64_t piece = task % pieces, column = task / pieces % columns.count();
    const int64_t outer = task / pieces / columns.count();
    const int64_t at = outer * shape.inner + columns.begin(column);
    const int64_t width = columns.end(column) - columns.begin(column);
    const int64_t begin = chunks.begin(piece), end = std::max(begin, chunks.end(piece));
    const In* from = in + outer * shape.count * shape.inner + columns.begin(column);
    const auto into = [&](auto* to) {
      using To = std::remove_pointer_t<decltype(to)>;
      if (shape.inner == 1)
        *to = To(reduce_run<Op>(end - begin, from + begin));
      else
        reduce_columns<Op>(begin, end, shape.inner, width, from, to);
    };
    if (pieces == 1)
      into(out + at);
    else
      into(partials + piece * shape.outer * shape.inner + at);
  };
  // Short tasks are handed out together.
  const int64_t task_elements = std::max<int64_t>(1, std::min(shape.inner, kColumns) * chunks.size);
  const int64_t grain = std::max<int64_t>(1, 16384 / task_elements);
  parallel_ranges(shape.outer * columns.count() * pieces, grain, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) run_task(task);
  });
  if (pieces == 1) return;
  const int64_t results = shape.outer * shape.inner;
  parallel_ranges(results, kColumns, [&](int64_t begin, int64_t end) {
    reduce_columns<Op>(0, pieces, results, end - begin, partials + begin, out + begin);
  });
}

}  // namespace

int64_t reduce_workspace(const ReduceShape& shape, int64_t accumulator_bytes) {
  const int64_t pieces = count_chunks(shape).count();
  return pieces <= 1 ? 0 : pieces * shape.outer * shape.inner * accumulator_bytes;
}

template <typename In, typename Out>
void reduce(ReduceKind kind, const ReduceShape& shape, const In* in, Out* out, void* workspace) {
  switch (kind) {
    case ReduceKind::sum:
      return reduce_with<Sum>(shape, in, out, workspace);
    case ReduceKind::max:
      return reduce_with<Max>(shape, in, out, workspace);
    case ReduceKind::min:
      return reduce_with<Min>(shape, in, out, workspace);
    case ReduceKind::product:
      return reduce_with<Product>(shape, in, out, workspace);
    default:
      TESSERA_CHECK(false, "floats cannot be reduced by ", kind);
  }
}

template void reduce(ReduceKind, const ReduceShape&, const float*, float*, void*);
template void reduce(ReduceKind, const ReduceShape&, const double*, double*, void*);
template void reduce(ReduceKind, const ReduceShape&, const bfloat16*, bfloat16*, void*);
template void reduce(ReduceKind, const ReduceShape&, const bfloat16*, float*, void*);
template void reduce(ReduceKind, const ReduceShape&, const float*, bfloat16*, void*);

namespace {

// Order does not matter to these, so rows are simply combined into the result.
template <typename T, typename Combine>
void reduce_rows(const ReduceShape& shape, T identity, const T* in, T* out, Combine combine) {
  const Chunks columns{shape.inner, 4096};
  parallel_for(shape.outer * columns.count(), [&](int64_t task) {
    const int64_t outer = task / columns.count(), column = task % columns.count();
    const int64_t begin = columns.begin(column), width = columns.end(column) - begin;
    T* to = out + outer * shape.inner + begin;
    std::fill_n(to, width, identity);
    const T* from = in + outer * shape.count * shape.inner + begin;
    if (shape.inner == 1) {
      T value = identity;
      for (int64_t i = 0; i < shape.count; ++i) value = combine(value, from[i]);
      *to = value;
      return;
    }
    for (int64_t i = 0; i < shape.count; ++i, from += shape.inner) {
      for (int64_t j = 0; j < width; ++j) to[j] = combine(to[j], from[j]);
    }
  });
}

}  // namespace

template <typename T>
void reduce_exact(ReduceKind kind, const ReduceShape& shape, const T* in, T* out) {
  if constexpr (std::is_same_v<T, bool>) {
    if (kind == ReduceKind::logical_and) {
      return reduce_rows(shape, true, in, out, [](bool a, bool b) { return bool(a & b); });
    }
    TESSERA_CHECK(kind == ReduceKind::logical_or, "pred cannot be reduced by ", kind);
    return reduce_rows(shape, false, in, out, [](bool a, bool b) { return bool(a | b); });
  } else {
    using Wrapping = std::make_unsigned_t<T>;
    using Limits = std::numeric_limits<T>;
    switch (kind) {
      case ReduceKind::sum:
        return reduce_rows(shape, T(0), in, out,
                           [](T a, T b) { return T(Wrapping(a) + Wrapping(b)); });
      case ReduceKind::max:
        return reduce_rows(shape, Limits::min(), in, out, [](T a, T b) { return a > b ? a : b; });
      case ReduceKind::min:
        return reduce_rows(shape, Limits::max(), in, out, [](T a, T b) { return a < b ? a : b; });
      default:
        TESSERA_CHECK(false, "no kernel to reduce integers by ", kind);
    }
  }
}

template void reduce_exact(ReduceKind, const ReduceShape&, const int32_t*, int32_t*);
template void reduce_exact(ReduceKind, const ReduceShape&, const int64_t*, int64_t*);
template void reduce_exact(ReduceKind, const ReduceShape&, const bool*, bool*);

}  // namespace tessera::cpu
