// Products with what comes next (core/ops/product_epilogue.h) as cuBLASLt's epilogues:
//
//     dot_general_bias       BIAS             dot_general_gelu_grad  DGELU
//     dot_general_bias_gelu  GELU_AUX_BIAS    dot_general_bias_grad  BGRADA: the sums of our right side, its A
//
// Whether cuBLASLt has an algorithm, and a fast one, shows only when a step is prepared; else they are a product and a
// kernel of ours behind it (matmul_plan.h).
//
// GELU is taken in bf16 only: how exactly cuBLASLt computes it is not documented, and in bf16 the rounding of the
// result hides it.
#include "core/ops/product_epilogue.h"
#include "kernels/cuda/matmul/epilogue.h"
#include "kernels/cuda/matmul/product.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

template <Epilogue kEpilogue>
ProductViews views_of(const KernelArgs& args) {
  ProductViews views{args.operands[0], args.operands[1], args.results[0]};
  if constexpr (kEpilogue == Epilogue::bias || kEpilogue == Epilogue::bias_gelu) views.bias = args.operands[2].data;
  if constexpr (kEpilogue == Epilogue::bias_gelu) views.aux = args.results[1].data;
  if constexpr (kEpilogue == Epilogue::gelu_grad) views.aux = args.operands[2].data;
  if constexpr (kEpilogue == Epilogue::bias_grad) views.bias = args.results[1].data;
  return views;
}

OpCall product_call(const OpCall& call) { return {call.operands.first(2), call.attributes}; }

bool adds(const KernelArgs& args, Epilogue epilogue) {
  return epilogue == Epilogue::bias_grad && args.operands.size() == 3;
}

// ---- run ----------------------------------------------------------------------------------------

template <Epilogue kEpilogue>
void prepare(const KernelArgs& args) {
  context_of(args.stream).matmul->steps().put(
      args, make_product_step(args, views_of<kEpilogue>(args), {adds(args, kEpilogue), kEpilogue}));
}

template <Epilogue kEpilogue>
void run(const KernelArgs& args) {
  if (adds(args, kEpilogue)) begin_as(args.operands[2], args);
  run_product_step(args, views_of<kEpilogue>(args), context_of(args.stream).matmul->steps().at(args));
}

// ---- accept -------------------------------------------------------------------------------------

Refusal refuse_empty(const Product& product) {
  const int64_t rows = product.layout.left.row_count, columns = product.layout.right.column_count,
                depth = product.layout.left.column_count;
  if (rows > 0 && columns > 0 && depth > 0) return std::nullopt;
  return cat("a product of ", rows, " x ", columns, " x ", depth, " has nothing to go with");
}

// NVIDIA's documentation of the leading dimension of aux: divisible by 8.
Refusal refuse_gelu(const Product& product, DType in, DType out) {
  if (in != DType::bf16 || out != DType::bf16) return cat("GELU goes with products of bf16, not in ", in, " into ", out);
  const int64_t columns = product.layout.right.column_count;
  if (columns % 8 != 0) return cat(columns, " columns are no multiple of 8");
  return std::nullopt;
}

Refusal refuse_sums(const Product& product) {
  const ProductSide& right = product.layout.right;
  if (right.copied || right.transposed || right.leading != right.column_count)
    return "what is summed does not lie as rows of its free dims";
  MatmulProblem sums{.columns = right.column_count, .depth = right.row_count, .epilogue = Epilogue::bias_grad};
  const int64_t bytes = epilogue_workspace(sums);
  if (bytes > kMatmulWorkspaceBytes) return cat("its sums may need ", bytes, " bytes of workspace");
  return std::nullopt;
}

template <Epilogue kEpilogue>
Refusal accept(const OpCall& call, Results results) {
  const DType in = call.operands[0].dtype, out = results[0].dtype;
  if (Refusal refusal = first_of({refuse_float(call.operands[0]), refuse_product(product_call(call), out)}))
    return refusal;
  const Product product = product_of(product_call(call));
  if (Refusal refusal = refuse_empty(product)) return refusal;
  if (kEpilogue == Epilogue::bias_gelu || kEpilogue == Epilogue::gelu_grad) return refuse_gelu(product, in, out);
  if (kEpilogue == Epilogue::bias_grad) return refuse_sums(product);
  return std::nullopt;
}

template <Epilogue kEpilogue>
void add(KernelTable& table, const OpDef& op, const char* name) {
  Kernel kernel = make_kernel(name, accept<kEpilogue>, run<kEpilogue>);
  kernel.workspace_bytes = [](const OpCall& call, Results) { return product_workspace(product_call(call)); };
  kernel.prepare = prepare<kEpilogue>;
  table.add(op, kernel);
}

}  // namespace

void register_product_epilogues(KernelTable& table) {
  add<Epilogue::bias>(table, ops::kDotGeneralBias, "cuda.cublaslt_bias");
  add<Epilogue::bias_gelu>(table, ops::kDotGeneralBiasGelu, "cuda.cublaslt_bias_gelu");
  add<Epilogue::gelu_grad>(table, ops::kDotGeneralGeluGrad, "cuda.cublaslt_gelu_grad");
  add<Epilogue::bias_grad>(table, ops::kDotGeneralBiasGrad, "cuda.cublaslt_bias_grad");
}

}  // namespace tessera::cuda
