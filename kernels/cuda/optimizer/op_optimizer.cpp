// adamw and sum_of_squares.
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/optimizer/adamw.h"
#include "kernels/cuda/optimizer/sum_of_squares.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

Refusal accept_adamw(const OpCall& call, Results) {
  if (call.operands[0].dtype == DType::f32) return std::nullopt;
  return cat("compiled for f32 states, not ", call.operands[0].dtype);
}

void run_adamw(const KernelArgs& args) {
  const auto in = [&](size_t i) { return args.operands[i].as<const float>(); };
  const auto out = [&](size_t i) { return args.results[i].as<float>(); };
  const Attributes& attributes = args.instruction.attributes;
  const double beta1 = attributes.number(Attr::beta1), beta2 = attributes.number(Attr::beta2);
  const auto f32 = [](double x) { return static_cast<float>(x); };
  adamw(args.operands[0].type.elements(), {in(0), in(1), in(2), in(3), out(0), out(1), out(2)},
        {in(4), in(5), in(6), in(7)},
        {f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2), f32(attributes.number(Attr::epsilon)),
         f32(attributes.number(Attr::weight_decay))},
        context_of(args.stream).multiprocessors, stream_of(args));
}

Refusal accept_squares(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

int64_t squares_workspace(const OpCall& call, Results) {
  return sum_of_squares_workspace(call.operands[0].elements());
}

void run_squares(const KernelArgs& args) {
  const TensorView& x = args.operands[0];
  dispatch_float(x.type.dtype, [&]<typename T>() {
    sum_of_squares(x.type.elements(), x.as<const T>(), args.results[0].as<float>(), args.workspace, stream_of(args));
  });
}

}  // namespace

void register_optimizer(KernelTable& table) {
  // In place by the op's own alias.
  table.add(ops::kAdamW, make_kernel("cuda.adamw", accept_adamw, run_adamw));
  Kernel squares = make_kernel("cuda.sum_of_squares", accept_squares, run_squares);
  squares.workspace_bytes = squares_workspace;
  table.add(ops::kSumOfSquares, squares);
}

}  // namespace tessera::cuda
