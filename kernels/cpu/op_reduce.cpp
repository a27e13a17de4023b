#include <algorithm>

#include "core/ops/combiner.h"
#include "core/ops/structure.h"
#include "kernels/cpu/combine.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

// The reduction as a chain of [outer, count, inner] ones, innermost dims first; neighbouring
// reduced dims are one. Between them values are f32 (f64).
std::vector<ReduceShape> chain_of(const TensorType& x, const Ints& dimensions) {
  const auto is_reduced = [&](int d) {
    return std::count(dimensions.begin(), dimensions.end(), d) > 0;
  };
  std::vector<ReduceShape> chain;
  int64_t inner = 1;  // of what is left behind the dim
  for (int d = x.rank() - 1; d >= 0; --d) {
    if (!is_reduced(d)) {
      inner *= x.shape[d];
      continue;
    }
    ReduceShape shape{1, x.shape[d], inner};
    while (d > 0 && is_reduced(d - 1)) shape.count *= x.shape[--d];
    for (int o = 0; o < d; ++o) shape.outer *= x.shape[o];
    chain.push_back(shape);
  }
  if (chain.empty()) chain.push_back({x.elements(), 1, 1});
  return chain;
}

int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Workspace: the partials of the largest step, then two buffers for what lies between steps.
struct Layout {
  int64_t partials = 0, between = 0;
};
Layout layout_of(const std::vector<ReduceShape>& chain, int64_t bytes) {
  Layout layout;
  for (size_t i = 0; i < chain.size(); ++i) {
    layout.partials = std::max(layout.partials, align(reduce_workspace(chain[i], bytes)));
    if (i + 1 < chain.size()) {
      layout.between = std::max(layout.between, align(chain[i].outer * chain[i].inner * bytes));
    }
  }
  return layout;
}

// One operand, combined by a kind that floats or integers have; an initial value comes last.
ReduceKind kind_of(const Attributes& attributes) { return *ops::Combiner(attributes).kind(); }

Refusal refuse_general(const OpCall& call) {
  if (call.operands.size() > 2) return "several operands";
  if (!ops::Combiner(call.attributes).kind()) return "a combiner region";
  return std::nullopt;
}

// Each result combined with the initial value, where there is one.
template <typename T>
void add_init(const KernelArgs& args, ReduceKind kind) {
  if (args.operands.size() == 1) return;
  using A = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;
  const A init = A(*args.operands[1].as<const T>());
  T* out = args.results[0].as<T>();
  dispatch_kind(kind, [&]<ReduceKind kKind>() {
    for (int64_t i = 0; i < args.results[0].type.elements(); ++i)
      out[i] = T(combined<kKind, A>(init, A(out[i])));
  });
}

Refusal accept(const OpCall& call, Results) {
  if (Refusal refusal = refuse_general(call)) return refusal;
  return refuse_float(call.operands[0]);
}

int64_t workspace_of(const OpCall& call, Results) {
  const auto chain = chain_of(call.operands[0], call.attributes.ints(Attr::dimensions));
  const Layout layout = layout_of(chain, accumulator_bytes(call.operands[0].dtype));
  return layout.partials + 2 * layout.between;
}

void run(const KernelArgs& args) {
  const TensorView& x = args.operands[0];
  const Attributes& attributes = args.instruction.attributes;
  const ReduceKind kind = kind_of(attributes);
  const auto chain = chain_of(x.type, attributes.ints(Attr::dimensions));
  const Layout layout = layout_of(chain, accumulator_bytes(x.type.dtype));
  dispatch_kernel_float(x.type.dtype, [&]<typename T>() {
    using A = simd::Accumulator<T>;
    T* out = args.results[0].as<T>();
    if (chain.size() == 1) {
      reduce(kind, chain[0], x.as<T>(), out, args.workspace);
      return add_init<T>(args, kind);
    }
    const auto between = [&](size_t i) {
      const int64_t offset = layout.partials + static_cast<int64_t>(i % 2) * layout.between;
      return reinterpret_cast<A*>(args.workspace + offset);
    };
    const size_t last = chain.size() - 1;
    reduce(kind, chain[0], x.as<T>(), between(0), args.workspace);
    for (size_t i = 1; i < last; ++i)
      reduce(kind, chain[i], between(i - 1), between(i), args.workspace);
    reduce(kind, chain[last], between(last - 1), out, args.workspace);
    add_init<T>(args, kind);
  });
}

// ---- Integers and pred: one step only -----------------------------------------------------------

Refusal accept_exact(const OpCall& call, Results) {
  if (Refusal refusal = refuse_general(call)) return refusal;
  const DType dtype = call.operands[0].dtype;
  if (dtype != DType::pred && dtype != DType::s32 && dtype != DType::s64)
    return cat("compiled for pred, s32 and s64, not ", dtype);
  if (kind_of(call.attributes) == ReduceKind::product) return "no product of integers";
  if (dtype == DType::pred && call.operands.size() > 1) return "no initial values of pred";
  if (chain_of(call.operands[0], call.attributes.ints(Attr::dimensions)).size() > 1)
    return "the reduced dims are not neighbours";
  return std::nullopt;
}

void run_exact(const KernelArgs& args) {
  const TensorView& x = args.operands[0];
  const Attributes& attributes = args.instruction.attributes;
  const ReduceKind kind = kind_of(attributes);
  const ReduceShape shape = chain_of(x.type, attributes.ints(Attr::dimensions))[0];
  const auto run_as = [&]<typename T>() {
    reduce_exact(kind, shape, x.as<T>(), args.results[0].as<T>());
    if constexpr (!std::is_same_v<T, bool>) add_init<T>(args, kind);
  };
  if (x.type.dtype == DType::pred)
    run_as.operator()<bool>();
  else if (x.type.dtype == DType::s32)
    run_as.operator()<int32_t>();
  else
    run_as.operator()<int64_t>();
}

}  // namespace

void register_reductions(KernelTable& table) {
  Kernel kernel = make_kernel("cpu.reduce", accept, run);
  kernel.workspace_bytes = workspace_of;
  table.add(ops::kReduce, kernel);
  table.add(ops::kReduce, make_kernel("cpu.reduce_exact", accept_exact, run_exact));
}

}  // namespace tessera::cpu
