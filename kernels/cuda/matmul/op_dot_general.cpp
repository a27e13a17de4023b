// dot_general and dot_general_add by cuBLASLt.
#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/matmul/product.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// The two operands of the product stand at the end, behind what it is added to.
ProductViews views_of(const KernelArgs& args) {
  const std::span<const TensorView> factors = args.operands.last(2);
  return {factors[0], factors[1], args.results[0]};
}

template <bool kAccumulate>
void prepare(const KernelArgs& args) {
  context_of(args.stream).matmul->steps().put(
      args, make_product_step(args, views_of(args), {.accumulate = kAccumulate}));
}

void run(const KernelArgs& args) {
  const ProductStep& step = context_of(args.stream).matmul->steps().at(args);
  const TensorView& result = args.results[0];
  if (step.plan) return run_product_step(args, views_of(args), step);
  if (result.type.bytes() > 0)
    check(cudaMemsetAsync(result.data, 0, static_cast<size_t>(result.type.bytes()), stream_of(args)),
          "a product of depth 0");
}

void run_add(const KernelArgs& args) {
  const ProductStep& step = context_of(args.stream).matmul->steps().at(args);
  begin_as(args.operands[0], args);
  if (step.plan) run_product_step(args, views_of(args), step);
}

Refusal accept(const OpCall& call, Results results) { return refuse_product(call, results[0].dtype); }

OpCall without_sum(const OpCall& call) { return {call.operands.subspan(1), call.attributes}; }

}  // namespace

void register_dot_general(KernelTable& table) {
  Kernel kernel = make_kernel("cuda.cublaslt", accept, run);
  kernel.workspace_bytes = [](const OpCall& call, Results) { return product_workspace(call); };
  kernel.prepare = prepare<false>;
  table.add(ops::kDotGeneral, kernel);
  // The sum is rounded once, of whatever width it is.
  Kernel add = make_kernel(
      "cuda.cublaslt_add",
      [](const OpCall& call, Results results) { return accept(without_sum(call), results); }, run_add);
  add.workspace_bytes = [](const OpCall& call, Results) { return product_workspace(without_sum(call)); };
  add.prepare = prepare<true>;
  table.add(ops::kDotGeneralAdd, add);
  register_product_epilogues(table);
  register_fp8(table);
}

}  // namespace tessera::cuda
