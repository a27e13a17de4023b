// Products in fp8 (core/ops/fp8_product.h) and what belongs to them:
//
//     scaled_dot_general       by cuBLASLt, which reads the scales in device memory (A and B scale pointers), with
//     scaled_dot_general_gelu  its epilogues (BIAS, GELU_AUX_BIAS)
//     scaled_dot_general_add   and into what is there already (beta = 1)
//     dot_general of f8        that cuBLASLt refuses (sides that are no multiples of 16, e5m2 x e5m2): as bf16
//     max_abs
#include "core/ops/contraction.h"
#include "core/ops/max_abs.h"
#include "core/ops/scaled_product.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/matmul/fp8.h"
#include "kernels/cuda/matmul/product.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// ---- scaled_dot_general -------------------------------------------------------------------------

OpCall product_call(const OpCall& call) { return {call.operands.first(2), call.attributes}; }

bool is_added_to_fifth(const KernelArgs& args) { return args.instruction.is(ops::kScaledDotGeneralAdd); }

Epilogue epilogue_of(const KernelArgs& args) {
  if (args.instruction.is(ops::kScaledDotGeneralGelu)) return Epilogue::bias_gelu;
  return args.operands.size() == 5 && !is_added_to_fifth(args) ? Epilogue::bias : Epilogue::none;
}

ProductViews scaled_views(const KernelArgs& args) {
  ProductViews views{args.operands[0], args.operands[1], args.results[0]};
  views.left_scale = args.operands[2].data;
  views.right_scale = args.operands[3].data;
  const Epilogue epilogue = epilogue_of(args);
  if (epilogue != Epilogue::none) views.bias = args.operands[4].data;
  if (epilogue == Epilogue::bias_gelu) views.aux = args.results[1].data;
  return views;
}

void prepare_scaled(const KernelArgs& args) {
  context_of(args.stream).matmul->steps().put(
      args, make_product_step(args, scaled_views(args), {is_added_to_fifth(args), epilogue_of(args)}));
}

void run_scaled(const KernelArgs& args) {
  if (is_added_to_fifth(args)) begin_as(args.operands[4], args);
  run_product_step(args, scaled_views(args), context_of(args.stream).matmul->steps().at(args));
}

Refusal accept_scaled(const OpCall& call, Results results) {
  return refuse_product(product_call(call), results[0].dtype);
}
Refusal accept_biased(const OpCall& call, Results results) {
  if (call.operands.size() == 5 && results[0].dtype != DType::bf16)
    return cat("cuBLASLt adds a bias to f8 products of bf16, not of ", results[0].dtype);
  return accept_scaled(call, results);
}

// ---- dot_general, widened -----------------------------------------------------------------------

int64_t padded_bytes(const TensorType& type) { return (type.bytes() + 63) / 64 * 64; }

struct Widened {
  TensorType types[2];
  int64_t bytes = 0;
  explicit Widened(const OpCall& call)
      : types{{DType::bf16, call.operands[0].shape}, {DType::bf16, call.operands[1].shape}},
        bytes(padded_bytes(types[0]) + padded_bytes(types[1])) {}
};

// The step of the product in bf16, whose operands and workspace lie in this step's workspace.
struct WidenedStep {
  explicit WidenedStep(const KernelArgs& args)
      : types{args.operands[0].type, args.operands[1].type},
        wide({types, args.instruction.attributes}),
        views{{wide.types[0], args.workspace},
              {wide.types[1], args.workspace + padded_bytes(wide.types[0])},
              args.results[0]},
        inner{args.instruction, args.operands, args.results, args.workspace + wide.bytes, args.stream} {}

  TensorType types[2];
  Widened wide;
  ProductViews views;
  KernelArgs inner;
};

void prepare_widened(const KernelArgs& args) {
  const WidenedStep step(args);
  context_of(args.stream).matmul->steps().put(args, make_product_step(step.inner, step.views, {}));
}

void run_widened(const KernelArgs& args) {
  const WidenedStep widened(args);
  const ProductStep& step = context_of(args.stream).matmul->steps().at(args);
  const TensorView& result = args.results[0];
  if (!step.plan) {
    if (result.type.bytes() > 0)
      check(cudaMemsetAsync(result.data, 0, static_cast<size_t>(result.type.bytes()), stream_of(args)),
            "a product of depth 0");
    return;
  }
  const TensorView* const wide[] = {&widened.views.left, &widened.views.right};
  for (size_t i = 0; i < 2; ++i)
    widen_f8(args.operands[i].type.dtype == DType::f8e5m2, wide[i]->type.elements(),
             args.operands[i].as<const uint8_t>(), wide[i]->as<bf16>(), stream_of(args));
  run_product_step(widened.inner, widened.views, step);
}

Refusal accept_widened(const OpCall& call, Results results) {
  if (!is_f8(call.operands[0].dtype)) return cat(call.operands[0].dtype, " is not widened");
  const Widened wide(call);
  return refuse_product({wide.types, call.attributes}, results[0].dtype);
}

int64_t widened_workspace(const OpCall& call, Results) {
  const Widened wide(call);
  return wide.bytes + product_workspace({wide.types, call.attributes});
}

// ---- max_abs ------------------------------------------------------------------------------------

void run_max_abs(const KernelArgs& args) {
  const TensorView& x = args.operands[0];
  dispatch_float(x.type.dtype, [&]<typename T>() {
    max_abs(x.type.elements(), x.as<const T>(), args.results[0].as<float>(), args.workspace, stream_of(args));
  });
}

}  // namespace

void register_fp8(KernelTable& table) {
  const auto add_scaled = [&table](const OpDef& op, const char* name, auto accept) {
    Kernel kernel = make_kernel(name, accept, run_scaled);
    kernel.workspace_bytes = [](const OpCall& call, Results) { return product_workspace(product_call(call)); };
    kernel.prepare = prepare_scaled;
    table.add(op, kernel);
  };
  add_scaled(ops::kScaledDotGeneral, "cuda.cublaslt_scaled", accept_biased);
  add_scaled(ops::kScaledDotGeneralGelu, "cuda.cublaslt_scaled_gelu", accept_biased);
  add_scaled(ops::kScaledDotGeneralAdd, "cuda.cublaslt_scaled_add", accept_scaled);

  Kernel widened = make_kernel("cuda.cublaslt_widened", accept_widened, run_widened);
  widened.workspace_bytes = widened_workspace;
  widened.prepare = prepare_widened;
  table.add(ops::kDotGeneral, widened);

  Kernel largest = make_kernel(
      "cuda.max_abs", [](const OpCall& call, Results) { return refuse_float(call.operands[0]); }, run_max_abs);
  largest.workspace_bytes = [](const OpCall& call, Results) { return max_abs_workspace(call.operands[0].elements()); };
  table.add(ops::kMaxAbs, largest);
}

}  // namespace tessera::cuda
