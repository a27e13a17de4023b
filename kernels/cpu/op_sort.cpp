// sort by one operand, and top_k: lines of (rank, index) pairs, the rank being an integer that
// orders as the elements do. The index settles equal ranks, which makes every algorithm a stable
// one.
#include <algorithm>
#include <complex>
#include <cstring>
#include <limits>

#include "core/ops/sort.h"
#include "core/ops/sort_merge.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/scratch.h"

namespace tessera::cpu {
namespace {

struct Item {
  int64_t rank;
  int64_t index;
  bool operator<(const Item& other) const {
    return rank != other.rank ? rank < other.rank : index < other.index;
  }
};

// The bits of a float, turned round where it is negative: -NaN < -inf < ... < -0 < 0 < ... < NaN.
template <typename Bits, typename T>
int64_t total_rank_of(T value) {
  static_assert(sizeof(Bits) == sizeof(T));
  Bits bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits < 0 ? bits ^ std::numeric_limits<Bits>::max() : bits;
}

template <typename T>
int64_t rank_of(T value) {
  if constexpr (std::is_same_v<T, uint64_t>)
    return static_cast<int64_t>(value ^ (uint64_t{1} << 63));
  else if constexpr (std::is_integral_v<T>)
    return static_cast<int64_t>(value);
  else if constexpr (sizeof(T) == 8)
    return total_rank_of<int64_t>(value);
  else if constexpr (sizeof(T) == 4)
    return total_rank_of<int32_t>(value);
  else if constexpr (sizeof(T) == 2)
    return total_rank_of<int16_t>(value);
  else
    return total_rank_of<int8_t>(value);
}
constexpr int64_t kRankOfMinusZero = -1;

// Lines along a dim: the element i of line l is at (l / inner) * size * inner + l % inner + i
// inner.
struct Lines {
  int64_t count, size, inner;

  Lines(const Shape& shape, int dim)
      : size(shape[dim]), inner(shape.strides()[static_cast<size_t>(dim)]) {
    count = size == 0 ? 0 : shape.elements() / size;
  }
  int64_t first(int64_t line) const { return line / inner * size * inner + line % inner; }
};

constexpr int64_t kMostTasks = 16;

// What sorts by: the comparison, and the operand that says what comes last, or -1.
struct Order {
  ops::Comparison comparison;
  int padding = -1;
};
std::optional<Order> order_of(const Attributes& attributes) {
  if (const auto own = ops::sort_comparison(attributes)) return Order{*own, -1};
  if (const auto last = ops::as_padding_last(*attributes.get<GraphRef>(Attr::combiner)))
    return Order{last->comparison, last->padding};
  return std::nullopt;
}

// ---- sort ---------------------------------------------------------------------------------------

template <typename T>
void fill_items(const Lines& lines, int64_t first, const T* keys, const Order& order, Item* items) {
  const bool is_greater = order.comparison.direction == CompareDirection::gt;
  const bool joins_zeros = !std::is_integral_v<T> && !order.comparison.total_order;
  for (int64_t i = 0; i < lines.size; ++i) {
    int64_t rank = rank_of(keys[first + i * lines.inner]);
    if (joins_zeros && rank == kRankOfMinusZero) rank = 0;
    items[i] = {is_greater ? ~rank : rank, i};
  }
}

template <typename Word>
void permute(const Lines& lines, int64_t first, const Item* items, const void* from, void* to) {
  const Word* source = static_cast<const Word*>(from) + first;
  Word* target = static_cast<Word*>(to) + first;
  for (int64_t i = 0; i < lines.size; ++i)
    target[i * lines.inner] = source[items[i].index * lines.inner];
}

void permute(int64_t width, const Lines& lines, int64_t first, const Item* items, const void* from,
             void* to) {
  switch (width) {
    case 1:
      return permute<uint8_t>(lines, first, items, from, to);
    case 2:
      return permute<uint16_t>(lines, first, items, from, to);
    case 4:
      return permute<uint32_t>(lines, first, items, from, to);
    default:
      return permute<uint64_t>(lines, first, items, from, to);
  }
}

void run_sort(const KernelArgs& args) {
  const Order order = *order_of(args.instruction.attributes);
  const auto dim = static_cast<int>(args.instruction.attributes.integer(Attr::dimension));
  const Lines lines(args.operands[0].type.shape, dim);
  const TensorView& key = args.operands[static_cast<size_t>(order.comparison.key)];
  const int64_t tasks = std::min(kMostTasks, lines.count);
  parallel_for(tasks, [&](int64_t task) {
    Item* items = reinterpret_cast<Item*>(args.workspace) + task * lines.size;
    for (int64_t line = task; line < lines.count; line += tasks) {
      const int64_t first = lines.first(line);
      dispatch_dtype(key.type.dtype, [&]<typename T>() {
        if constexpr (!std::is_same_v<T, std::complex<float>>)
          fill_items(lines, first, key.as<const T>(), order, items);
      });
      if (order.padding < 0) {
        std::sort(items, items + lines.size);
      } else {
        const bool* last = args.operands[static_cast<size_t>(order.padding)].as<const bool>();
        std::sort(items, items + lines.size, [&](const Item& a, const Item& b) {
          const bool a_is_last = last[first + a.index * lines.inner],
                     b_is_last = last[first + b.index * lines.inner];
          if (a_is_last != b_is_last) return b_is_last;
          return a_is_last ? a.index < b.index : a < b;
        });
      }
      for (size_t r = 0; r < args.results.size(); ++r)
        permute(size_of(args.results[r].type.dtype), lines, first, items, args.operands[r].data,
                args.results[r].data);
    }
  });
}

Refusal accept_sort(const OpCall& call, Results) {
  const auto order = order_of(call.attributes);
  if (!order || !ops::is_strict(order->comparison)) return "no order by one operand, lt or gt";
  const DType key = call.operands[static_cast<size_t>(order->comparison.key)].dtype;
  if (key == DType::c64) return "c64 has no order";
  return std::nullopt;
}

int64_t sort_workspace(const OpCall& call, Results) {
  const Lines lines(call.operands[0].shape,
                    static_cast<int>(call.attributes.integer(Attr::dimension)));
  return std::min(kMostTasks, lines.count) * lines.size * static_cast<int64_t>(sizeof(Item));
}

// ---- top_k --------------------------------------------------------------------------------------

// The best k of a line: a heap whose top is the worst of the best so far.
template <typename T>
void best_of_line(const T* x, int64_t size, int64_t k, bool is_largest, Item* best) {
  for (int64_t i = 0; i < size; ++i) {
    int64_t rank = rank_of(x[i]);
    if constexpr (!std::is_integral_v<T>)
      if (x[i] != x[i]) rank = std::numeric_limits<int64_t>::max();  // of either sign
    const Item item{is_largest ? ~rank : rank, i};
    if (i < k) {
      best[i] = item;
      std::push_heap(best, best + i + 1);
    } else if (item < best[0]) {
      std::pop_heap(best, best + k);
      best[k - 1] = item;
      std::push_heap(best, best + k);
    }
  }
  std::sort_heap(best, best + k);
}

void run_top_k(const KernelArgs& args) {
  const Attributes& attributes = args.instruction.attributes;
  const TensorView &x = args.operands[0], &values = args.results[0];
  const int64_t k = attributes.integer(Attr::k);
  const Lines lines(x.type.shape, x.type.rank() - 1);
  if (k == 0) return;
  const bool is_largest = attributes.get_or<bool>(Attr::largest, true);
  dispatch_dtype(x.type.dtype, [&]<typename T>() {
    if constexpr (!std::is_same_v<T, std::complex<float>>)
      parallel_ranges(lines.count, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, lines.size)),
                      [&](int64_t begin, int64_t end) {
                        Item* best = scratch_array<Item>(0, static_cast<size_t>(k));
                        for (int64_t line = begin; line < end; ++line) {
                          const T* own = x.as<const T>() + line * lines.size;
                          best_of_line(own, lines.size, k, is_largest, best);
                          for (int64_t i = 0; i < k; ++i) {
                            values.as<T>()[line * k + i] = own[best[i].index];
                            args.results[1].as<int32_t>()[line * k + i] =
                                static_cast<int32_t>(best[i].index);
                          }
                        }
                      });
  });
}

}  // namespace

void register_sorts(KernelTable& table) {
  Kernel sort = make_kernel("cpu.sort", accept_sort, run_sort);
  sort.workspace_bytes = sort_workspace;
  table.add(ops::kSort, sort);
  table.add(ops::kTopK, make_kernel("cpu.top_k", nullptr, run_top_k));
}

}  // namespace tessera::cpu
