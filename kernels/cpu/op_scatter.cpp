// scatter, over its operand: replaced, or combined by sum, product, max or min.
//
// Windows of one element along every indexed dim are disjoint or the same. They are dealt out by
// where they start in the operand, in ranges that its size alone decides, and each range is done by
// one thread in the order of the updates. Other windows may overlap and lie partly outside: they
// are done one after the other.
#include <algorithm>
#include <cstring>

#include "core/ops/combiner.h"
#include "core/ops/gather.h"
#include "kernels/cpu/combine.h"
#include "kernels/cpu/index_windows.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

struct Use {
  int64_t start;  // of the window in the operand
  int64_t window;
  bool operator<(const Use& other) const {
    return start != other.start ? start < other.start : window < other.window;
  }
};

// What is done with `bytes` at `to`, given `count` updates for them: update(i) is the address of
// the i-th. kGroups: all updates of a window must be given at once.
struct Replace {
  static constexpr bool kGroups = false;
  template <typename Update>
  void operator()(int64_t bytes, int64_t count, const Update& update, std::byte* to) const {
    std::memcpy(to, update(count - 1), static_cast<size_t>(bytes));
  }
  void elements(const Use* first, const Use* last, const std::byte* updates, int64_t step,
                std::byte* to, int64_t width) const {
    for (; first < last; ++first)
      std::memcpy(to + first->start * width, updates + first->window * step,
                  static_cast<size_t>(width));
  }
};

// Sums of bf16 are f32 and rounded once.
template <typename T, ReduceKind kKind>
struct Combine {
  static constexpr bool kGroups = std::is_same_v<T, bfloat16>;
  using A = std::conditional_t<kGroups, float, T>;

  template <typename Update>
  void operator()(int64_t bytes, int64_t count, const Update& update, std::byte* to) const {
    constexpr int64_t kPiece = 256;
    T* made = reinterpret_cast<T*>(to);
    const int64_t elements = bytes / static_cast<int64_t>(sizeof(T));
    for (int64_t done = 0; done < elements; done += kPiece) {
      const int64_t n = std::min(kPiece, elements - done);
      A sums[kPiece];
      for (int64_t j = 0; j < n; ++j) sums[j] = A(made[done + j]);
      for (int64_t i = 0; i < count; ++i) {
        const T* added = reinterpret_cast<const T*>(update(i)) + done;
        for (int64_t j = 0; j < n; ++j) sums[j] = combined<kKind, A>(sums[j], A(added[j]));
      }
      for (int64_t j = 0; j < n; ++j) made[done + j] = T(sums[j]);
    }
  }
  // Windows of one element, whose updates stand `step` bytes apart. Of a loop of its own, as what a
  // call per element spills waits for the stores before it.
  void elements(const Use* first, const Use* last, const std::byte* updates, int64_t step,
                std::byte* to, int64_t) const {
    T* made = reinterpret_cast<T*>(to);
    for (; first < last; ++first) {
      const T added = *reinterpret_cast<const T*>(updates + first->window * step);
      made[first->start] = T(combined<kKind, A>(A(made[first->start]), A(added)));
    }
  }
};

// One call's geometry and memories.
struct Scatter {
  const ops::IndexMap& map;
  const IndexWindows& windows;
  int64_t width;
  const std::byte* updates;
  std::byte* to;
  Places<1> update_places;  // of the windows' first elements, in bytes
  int64_t* workspace;

  Block block_of(const Shape& extent) const {
    const std::vector<int64_t> own = map.operand.strides(), from = map.window.strides();
    std::vector<int64_t> from_strides;
    for (const ops::IndexMap::Dim& dim : map.dims)
      from_strides.push_back(dim.window_dim < 0 ? 0 : from[static_cast<size_t>(dim.window_dim)]);
    return Block(width, extent, from_strides, own);
  }
  Shape window_extent() const {
    Shape extent;
    for (const ops::IndexMap::Dim& dim : map.dims) extent.push_back(dim.size);
    return extent;
  }
  const std::byte* update(int64_t window) const { return updates + update_places.at(window)[0]; }
};

// The windows that are inside, in order within each of the ranges of the operand that they start
// in.
struct Uses {
  static constexpr int64_t kRanges = 64;
  Use* uses;
  int64_t ends[kRanges + 1] = {};

  explicit Uses(const Scatter& s) {
    int shift = 12;  // ranges of 4096 elements and more
    while ((s.map.operand.elements() - 1) >> shift >= kRanges) ++shift;
    const int64_t count = s.windows.count();
    int64_t* starts = s.workspace;
    uses = reinterpret_cast<Use*>(starts + count);
    s.windows.starts_or_outside(starts);
    for (int64_t w = 0; w < count; ++w)
      if (starts[w] >= 0) ++ends[(starts[w] >> shift) + 1];
    for (int64_t r = 0; r < kRanges; ++r) ends[r + 1] += ends[r];
    int64_t next[kRanges + 1];
    std::copy(std::begin(ends), std::end(ends), next);
    for (int64_t w = 0; w < count; ++w)
      if (starts[w] >= 0) uses[next[starts[w] >> shift]++] = {starts[w], w};
  }
};

// Windows that are disjoint or the same.
template <typename Apply>
void run_single(const Scatter& s, Apply apply) {
  const Uses uses(s);
  const Block block = s.block_of(s.window_extent());
  const bool is_element = block.bytes() == s.width && s.update_places.is_line();
  parallel_for(Uses::kRanges, [&](int64_t range) {
    Use *first = uses.uses + uses.ends[range], *last = uses.uses + uses.ends[range + 1];
    if (Apply::kGroups) {
      std::sort(first, last);
    } else if (is_element) {
      return apply.elements(first, last, s.updates, s.update_places.step()[0], s.to, s.width);
    }
    while (first < last) {
      const Use* end = first + 1;
      while (Apply::kGroups && end < last && end->start == first->start) ++end;
      std::byte* to = s.to + first->start * s.width;
      for (int64_t r = 0; r < block.runs(); ++r) {
        const auto [source, target] = block.run(r);
        apply(
            block.run_bytes(), end - first,
            [&, from = source](int64_t i) { return s.update(first[i].window) + from; },
            to + target);
      }
      first += end - first;
    }
  });
}

// One window after the other, each without what lies outside.
template <typename Apply>
void run_any(const Scatter& s, Apply apply) {
  const std::vector<int64_t> own = s.map.operand.strides(), from = s.map.window.strides();
  for (int64_t w = 0; w < s.windows.count(); ++w) {
    Shape extent = s.window_extent();
    int64_t source = 0, target = s.windows.batching_start(w);
    s.windows.for_each_index(w, [&](int d, int64_t index) {
      const ops::IndexMap::Dim& dim = s.map.dims[static_cast<size_t>(d)];
      const int64_t low = std::max<int64_t>(0, -index);
      extent[d] = std::max<int64_t>(0, std::min(dim.size, s.map.operand[d] - index) - low);
      if (dim.window_dim >= 0) source += low * from[static_cast<size_t>(dim.window_dim)];
      target += (index + low) * own[static_cast<size_t>(d)];
    });
    if (extent.elements() == 0) continue;
    const Block block = s.block_of(extent);
    const std::byte* update = s.update(w) + source * s.width;
    parallel_ranges(block.runs(), runs_per_task(block), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const auto [offset, place] = block.run(r);
        apply(
            block.run_bytes(), 1, [&, from = offset](int64_t) { return update + from; },
            s.to + target * s.width + place);
      }
    });
  }
}

template <typename Apply>
void run_with(const Scatter& s, Apply apply) {
  if (are_single(s.map))
    run_single(s, apply);
  else
    run_any(s, apply);
}

void run_scatter(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &indices = args.operands[1], &y = args.results[0];
  const Attributes& attributes = args.instruction.attributes;
  copy_bytes(y.type.bytes(), x.data, y.data);
  const TensorType types[] = {x.type, indices.type, args.operands[2].type};
  const ops::IndexMap map = ops::scatter_map({types, attributes});
  if (map.window.elements() == 0 || map.operand.elements() == 0) return;
  const IndexWindows windows(map, indices);
  const int64_t width = size_of(y.type.dtype);
  const std::vector<int64_t> from = map.window.strides();
  std::vector<int64_t> batch_strides;
  for (int d : map.window_batch_dims) batch_strides.push_back(from[static_cast<size_t>(d)] * width);
  const Scatter s{map,
                  windows,
                  width,
                  args.operands[2].as<const std::byte>(),
                  y.as<std::byte>(),
                  Places<1>(map.batch_shape(), {batch_strides}),
                  reinterpret_cast<int64_t*>(args.workspace)};
  if (ops::is_replacement(attributes)) return run_with(s, Replace{});
  dispatch_number(y.type.dtype, [&]<typename T>() {
    dispatch_kind(*ops::Combiner(attributes).kind(),
                  [&]<ReduceKind kKind>() { run_with(s, Combine<T, kKind>{}); });
  });
}

Refusal accept_scatter(const OpCall& call, Results) {
  if (call.operands.size() != 3) return "several inputs";
  const DType dtype = call.operands[0].dtype;
  const bool replaces = ops::is_replacement(call.attributes);
  const std::optional<ReduceKind> kind = ops::Combiner(call.attributes).kind();
  if (!replaces && !kind) return "a combiner region";
  if (Refusal refusal = refuse_number(call.operands[0]); refusal && !replaces) return refusal;
  const ops::IndexMap map = ops::scatter_map(call);
  if (are_single(map) || map.batch_shape().elements() <= 1) return std::nullopt;
  for (size_t i = 0; i < map.window_batch_dims.size(); ++i)
    if (map.window_batch_dims[i] != static_cast<int>(i))
      return "windows that may overlap, in an order of their own";
  if (dtype == DType::bf16 && (kind == ReduceKind::sum || kind == ReduceKind::product))
    return "bf16 windows that may overlap";
  return std::nullopt;
}

int64_t scatter_workspace(const OpCall& call, Results) {
  return 3 * ops::scatter_map(call).batch_shape().elements() *
         static_cast<int64_t>(sizeof(int64_t));
}

}  // namespace

void register_scatter(KernelTable& table) {
  Kernel kernel = make_kernel("cpu.scatter", accept_scatter, run_scatter);
  kernel.workspace_bytes = scatter_workspace;
  table.add(ops::kScatter, kernel);
}

}  // namespace tessera::cpu
