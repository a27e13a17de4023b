// Pooling and cumulative scans: plain loops, vectorised over the dims behind the ones they work on.
#include "core/ops/reduce_window.h"
#include "core/ops/scan.h"
#include "core/ops/window.h"
#include "kernels/cpu/combine.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/scratch.h"

namespace tessera::cpu {
namespace {

using ops::WindowDim;

Refusal accept_float(const OpCall& call, Results) {
  const DType dtype = call.operands[0].dtype;
  if (dtype == DType::f32 || dtype == DType::f64) return std::nullopt;
  return cat("compiled for f32 and f64, not ", dtype);
}
Refusal accept_kind(const OpCall& call, Results results) {
  if (!call.attributes.has(Attr::reduce_kind)) return "a combiner region";
  return accept_float(call, results);
}

// ---- reduce_window ------------------------------------------------------------------------------

// The last dims without windows are one run of elements; of the others every window element reads
// one such run.
struct Pool {
  std::vector<WindowDim> dims;  // with windows, and those before them
  Shape x, y;                   // extents of those dims
  int64_t run = 1;

  Pool(std::string_view op, const Attributes& attributes, const Shape& input, const Shape& output)
      : dims(ops::windows_of(op, attributes, input, attributes.ints(Attr::window_dimensions))) {
    size_t kept = dims.size();
    while (kept > 0 && dims[kept - 1].is_trivial()) run *= dims[--kept].size;
    TESSERA_CHECK(kept <= 16, "windows over ", kept, " dims");
    dims.resize(kept);
    for (size_t d = 0; d < kept; ++d) {
      x.push_back(input[static_cast<int>(d)]);
      y.push_back(output[static_cast<int>(d)]);
    }
  }

  // Calls body(run of x) for every window element of output run `to` that is no padding.
  template <typename Body>
  void for_each_source(int64_t to, Body body) const {
    int64_t q[16];
    for (int d = y.rank() - 1; d >= 0; --d) q[d] = to % y[d], to /= y[d];
    const auto walk = [&](auto& self, int d, int64_t from) -> void {
      if (d == y.rank()) return body(from);
      const WindowDim& dim = dims[static_cast<size_t>(d)];
      for (int64_t k = 0; k < dim.window; ++k)
        if (const int64_t p = dim.source(q[d], k); p >= 0) self(self, d + 1, from * x[d] + p);
    };
    walk(walk, 0, 0);
  }
};

void run_reduce_window(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &y = args.results[0];
  const Pool pool("reduce_window", args.instruction.attributes, x.type.shape, y.type.shape);
  const auto kind = args.instruction.attributes.get<ReduceKind>(Attr::reduce_kind);
  dispatch_kernel_float(y.type.dtype, [&]<typename T>() {
    if constexpr (!std::is_same_v<T, bfloat16>)
      dispatch_kind(kind, [&]<ReduceKind kKind>() {
        parallel_for(pool.y.elements(), [&](int64_t to) {
          T* made = y.as<T>() + to * pool.run;
          std::fill(made, made + pool.run, identity<T>(kKind));
          pool.for_each_source(to, [&](int64_t from) {
            const T* own = x.as<const T>() + from * pool.run;
            for (int64_t i = 0; i < pool.run; ++i) made[i] = combined<kKind, T>(made[i], own[i]);
          });
        });
      });
  });
}

// ---- select_and_scatter -------------------------------------------------------------------------

// Windows overlap, so one thread does all of what the leading dims without windows tell apart.
template <typename T>
void scatter(const Pool& pool, bool is_max, const T* x, const T* source, T* y) {
  int64_t tasks = 1;
  for (size_t d = 0; d < pool.dims.size() && pool.dims[d].is_trivial(); ++d)
    tasks *= pool.dims[d].size;
  const int64_t outputs = pool.y.elements() / std::max<int64_t>(1, tasks);
  const int64_t inputs = pool.x.elements() / std::max<int64_t>(1, tasks) * pool.run;
  parallel_for(tasks, [&](int64_t task) {
    std::fill(y + task * inputs, y + (task + 1) * inputs, T(0));
    int64_t* chosen = scratch_array<int64_t>(0, static_cast<size_t>(pool.run));
    for (int64_t to = task * outputs; to < (task + 1) * outputs; ++to) {
      std::fill(chosen, chosen + pool.run, int64_t{-1});
      pool.for_each_source(to, [&](int64_t from) {
        for (int64_t i = 0; i < pool.run; ++i) {
          const int64_t at = from * pool.run + i;
          const bool stays =
              chosen[i] >= 0 && (is_max ? x[chosen[i]] >= x[at] : x[chosen[i]] <= x[at]);
          if (!stays) chosen[i] = at;
        }
      });
      for (int64_t i = 0; i < pool.run; ++i)
        if (chosen[i] >= 0) y[chosen[i]] += source[to * pool.run + i];
    }
  });
}

void run_select_and_scatter(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &source = args.operands[1], &y = args.results[0];
  const Pool pool("select_and_scatter", args.instruction.attributes, x.type.shape,
                  source.type.shape);
  const bool is_max =
      args.instruction.attributes.get<ReduceKind>(Attr::reduce_kind) == ReduceKind::max;
  dispatch_kernel_float(y.type.dtype, [&]<typename T>() {
    if constexpr (!std::is_same_v<T, bfloat16>)
      scatter<T>(pool, is_max, x.as<const T>(), source.as<const T>(), y.as<T>());
  });
}

// ---- scan ---------------------------------------------------------------------------------------

// [outer, size, inner]: `inner` scans side by side. Floats are summed in double, integers in their
// own type, where they wrap.
template <typename T>
T rounded(auto value) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return bfloat16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}

template <typename T, ReduceKind kKind>
void scan(const KernelArgs& args, int64_t size, int64_t inner) {
  using A = std::conditional_t<std::is_integral_v<T>, T, double>;
  const Attributes& attributes = args.instruction.attributes;
  const bool is_reverse = attributes.flag(Attr::is_reverse);
  const bool is_exclusive = attributes.flag(Attr::is_exclusive);
  parallel_for(args.results[0].type.elements() / (size * inner), [&](int64_t outer) {
    A* sums = scratch_array<A>(0, static_cast<size_t>(inner));
    std::fill(sums, sums + inner, identity<A>(kKind));
    for (int64_t i = 0; i < size; ++i) {
      const int64_t at = (outer * size + (is_reverse ? size - 1 - i : i)) * inner;
      const T* from = args.operands[0].as<const T>() + at;
      T* to = args.results[0].as<T>() + at;
      for (int64_t f = 0; f < inner; ++f) {
        const A next = combined<kKind, A>(sums[f], A(from[f]));
        to[f] = rounded<T>(is_exclusive ? sums[f] : next);
        sums[f] = next;
      }
    }
  });
}

void run_scan(const KernelArgs& args) {
  const Attributes& attributes = args.instruction.attributes;
  const TensorType& type = args.operands[0].type;
  if (type.elements() == 0) return;
  const auto dim = static_cast<int>(attributes.integer(Attr::dimension));
  const int64_t inner = type.shape.strides()[static_cast<size_t>(dim)];
  dispatch_number(type.dtype, [&]<typename T>() {
    dispatch_kind(attributes.get<ReduceKind>(Attr::reduce_kind),
                  [&]<ReduceKind kKind>() { scan<T, kKind>(args, type.shape[dim], inner); });
  });
}

Refusal accept_scan(const OpCall& call, Results) { return refuse_number(call.operands[0]); }

}  // namespace

void register_windows(KernelTable& table) {
  table.add(ops::kReduceWindow, make_kernel("cpu.reduce_window", accept_kind, run_reduce_window));
  table.add(ops::kSelectAndScatter,
            make_kernel("cpu.select_and_scatter", accept_kind, run_select_and_scatter));
  table.add(ops::kScan, make_kernel("cpu.scan", accept_scan, run_scan));
}

}  // namespace tessera::cpu
