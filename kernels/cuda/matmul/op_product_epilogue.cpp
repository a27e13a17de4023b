// Products with what comes next (core/ops/product_epilogue.h) as cuBLASLt's epilogues:
//
//     dot_general_bias       BIAS             dot_general_gelu_grad  DGELU
//     dot_general_bias_gelu  GELU_AUX_BIAS    dot_general_bias_grad  BGRADA: the sums of our right side, its A
//
// What cuBLASLt finds no algorithm for, which shows only when a step is prepared, is a product and a kernel of ours
// behind it (epilogue.h, reduce.h).
//
// GELU is taken in bf16 only: how exactly cuBLASLt computes it is not documented, and in bf16 the rounding of the
// result hides it.
#include <algorithm>

#include "core/ops/product_epilogue.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/matmul/epilogue.h"
#include "kernels/cuda/matmul/product.h"
#include "kernels/cuda/reduction/reduce.h"
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

// [depth, columns] -> [columns]
ReduceShape sums_of(const OpCall& call) {
  const ProductSide right = product_of(product_call(call)).layout.right;
  return {1, right.row_count, right.column_count};
}

// ---- run ----------------------------------------------------------------------------------------

template <Epilogue kEpilogue>
void prepare(const KernelArgs& args) {
  context_of(args.stream).matmul->steps().put(
      args, make_product_step(args, views_of<kEpilogue>(args), {adds(args, kEpilogue), kEpilogue}));
}

template <typename In, typename Out>
void sum_columns(const KernelArgs& args, const OpCall& call) {
  reduce<In, Out>(ReduceKind::sum, sums_of(call), args.operands[1].as<In>(), args.results[1].as<Out>(), nullptr,
                  args.workspace + product_workspace(product_call(call)), stream_of(args));
}

// What the product was left without.
template <Epilogue kEpilogue>
void run_apart(const KernelArgs& args) {
  const TensorType types[] = {args.operands[0].type, args.operands[1].type};
  const OpCall call{types, args.instruction.attributes};
  const DType in = types[0].dtype, out = args.results[0].type.dtype;
  const int64_t columns = sums_of(call).inner, rows = args.results[0].type.elements() / columns;
  void* const result = args.results[0].data;
  if constexpr (kEpilogue == Epilogue::bias)
    dispatch_float(out, [&]<typename T>() {
      add_bias(rows, columns, args.operands[2].as<const T>(), static_cast<T*>(result), stream_of(args));
    });
  if constexpr (kEpilogue == Epilogue::bias_gelu)
    add_bias_and_gelu(rows, columns, args.operands[2].as<const bf16>(), args.results[1].as<bf16>(),
                      static_cast<bf16*>(result), stream_of(args));
  if constexpr (kEpilogue == Epilogue::gelu_grad)
    multiply_gelu_slope(rows, columns, args.operands[2].as<const bf16>(), static_cast<bf16*>(result), stream_of(args));
  if constexpr (kEpilogue == Epilogue::bias_grad) {
    if (in == DType::f32) return sum_columns<float, float>(args, call);
    if (out == DType::f32) return sum_columns<bf16, float>(args, call);
    sum_columns<bf16, bf16>(args, call);
  }
}

template <Epilogue kEpilogue>
void run(const KernelArgs& args) {
  const ProductStep& step = context_of(args.stream).matmul->steps().at(args);
  const TensorView& result = args.results[0];
  if (adds(args, kEpilogue) && args.operands[2].data != result.data)
    check(cudaMemcpyAsync(result.data, args.operands[2].data, static_cast<size_t>(result.type.bytes()),
                          cudaMemcpyDeviceToDevice, stream_of(args)),
          "a copy on the device");
  run_product_step(args, views_of<kEpilogue>(args), step);
  if (step.is_split) run_apart<kEpilogue>(args);
}

template <Epilogue kEpilogue>
int64_t workspace_of(const OpCall& call, Results) {
  return product_workspace(product_call(call)) +
         (kEpilogue == Epilogue::bias_grad ? reduce_workspace(sums_of(call), sizeof(float)) : 0);
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
  if (in != DType::bf16 || out != DType::bf16) return cat("GELU is left to cuBLASLt in bf16, not in ", in, " into ", out);
  const int64_t columns = product.layout.right.column_count;
  if (columns % 8 != 0) return cat(columns, " columns are no multiple of 8");
  return std::nullopt;
}

Refusal refuse_sums(const Product& product) {
  const ProductSide& right = product.layout.right;
  if (!right.copied && !right.transposed && right.leading == right.column_count) return std::nullopt;
  return "what is summed does not lie as rows of its free dims";
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
  kernel.workspace_bytes = workspace_of<kEpilogue>;
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
