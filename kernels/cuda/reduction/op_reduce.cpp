// reduce over any dims, as a chain of reductions over neighbouring ones.
#include <algorithm>

#include "core/ops/combiner.h"
#include "core/ops/structure.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/reduction/reduce.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// Innermost dims first, so that each step leaves less to the next; neighbouring reduced dims are one, and
// dims of size 1 none.
std::vector<ReduceShape> chain_of(const TensorType& x, const Ints& dimensions) {
  const auto is_reduced = [&](int d) {
    return std::count(dimensions.begin(), dimensions.end(), d) > 0 || x.shape[d] == 1;
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
    if (shape.count != 1) chain.push_back(shape);
  }
  if (chain.empty()) chain.push_back({x.elements(), 1, 1});
  return chain;
}

ReduceKind kind_of(const Attributes& attributes) { return *ops::Combiner(attributes).kind(); }

// Between steps and between blocks values are f32, or what they were.
int64_t partial_bytes(DType dtype) { return dtype == DType::bf16 ? 4 : size_of(dtype); }

Refusal accept(const OpCall& call, Results) {
  if (call.operands.size() > 2) return "several operands";
  if (!ops::Combiner(call.attributes).kind()) return "a combiner region, which is not compiled for the device";
  const DType dtype = call.operands[0].dtype;
  for (DType accepted : {DType::f32, DType::bf16, DType::s32, DType::s64, DType::pred})
    if (dtype == accepted) return std::nullopt;
  return cat("compiled for f32, bf16, s32, s64 and pred, not ", dtype);
}

// Workspace: the partials of the largest step, then two buffers for what lies between steps.
struct Layout {
  int64_t partials = 0, between = 0;
};
Layout layout_of(const std::vector<ReduceShape>& chain, int64_t bytes) {
  const auto align = [](int64_t size) { return (size + 63) / 64 * 64; };
  Layout layout;
  for (size_t i = 0; i < chain.size(); ++i) {
    layout.partials = std::max(layout.partials, align(reduce_workspace(chain[i], bytes)));
    if (i + 1 < chain.size()) layout.between = std::max(layout.between, align(chain[i].outer * chain[i].inner * bytes));
  }
  return layout;
}

int64_t workspace_of(const OpCall& call, Results) {
  const auto chain = chain_of(call.operands[0], call.attributes.ints(Attr::dimensions));
  const Layout layout = layout_of(chain, partial_bytes(call.operands[0].dtype));
  return layout.partials + 2 * layout.between;
}

// P: what lies between steps.
template <typename T, typename P>
void run_chain(const KernelArgs& args, const std::vector<ReduceShape>& chain) {
  const TensorView& x = args.operands[0];
  const ReduceKind kind = kind_of(args.instruction.attributes);
  const cudaStream_t stream = stream_of(args);
  const T* init = args.operands.size() > 1 ? args.operands[1].as<const T>() : nullptr;
  T* out = args.results[0].as<T>();
  if (chain.size() == 1) return reduce(kind, chain[0], x.as<const T>(), out, init, args.workspace, stream);
  const Layout layout = layout_of(chain, sizeof(P));
  const auto between = [&](size_t i) {
    return reinterpret_cast<P*>(args.workspace + layout.partials + static_cast<int64_t>(i % 2) * layout.between);
  };
  const size_t last = chain.size() - 1;
  const P* none = nullptr;
  reduce(kind, chain[0], x.as<const T>(), between(0), none, args.workspace, stream);
  for (size_t i = 1; i < last; ++i)
    reduce(kind, chain[i], static_cast<const P*>(between(i - 1)), between(i), none, args.workspace, stream);
  reduce(kind, chain[last], static_cast<const P*>(between(last - 1)), out, init, args.workspace, stream);
}

void run(const KernelArgs& args) {
  const TensorView& x = args.operands[0];
  if (args.results[0].type.elements() == 0) return;
  const auto chain = chain_of(x.type, args.instruction.attributes.ints(Attr::dimensions));
  switch (x.type.dtype) {
    case DType::f32: return run_chain<float, float>(args, chain);
    case DType::bf16: return run_chain<bf16, float>(args, chain);
    case DType::s32: return run_chain<int32_t, int32_t>(args, chain);
    case DType::s64: return run_chain<int64_t, int64_t>(args, chain);
    default: return run_chain<uint8_t, uint8_t>(args, chain);
  }
}

}  // namespace

void register_reductions(KernelTable& table) {
  Kernel kernel = make_kernel("cuda.reduce", accept, run);
  kernel.workspace_bytes = workspace_of;
  table.add(ops::kReduce, kernel);
}

}  // namespace tessera::cuda
