#include "core/ops/max_abs.h"
#include "core/ops/norm.h"
#include "kernels/cpu/layer_norm.h"
#include "kernels/cpu/max_abs.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/cpu/sum_of_squares.h"

namespace tessera::cpu {
namespace {

// Weights are like x, or f32 beside bf16.
Refusal accept_norm(const OpCall& call, Results) {
  const TensorType &x = call.operands[0], &gamma = call.operands[1];
  Refusal mixed = refuse_mixed(x, gamma);
  if (x.dtype == DType::bf16 && gamma.dtype == DType::f32) mixed.reset();
  return first_of({refuse_float(x), mixed});
}
Refusal accept_layer_norm(const OpCall& call, Results results) {
  return first_of({accept_norm(call, results), refuse_mixed(call.operands[1], call.operands[2])});
}

// Calls body<T, W>() with the types of x and of the weights.
template <typename Body>
void dispatch_norm(const KernelArgs& args, Body&& body) {
  const DType x = args.operands[0].type.dtype, weight = args.operands[1].type.dtype;
  if (x != weight) return body.template operator()<bfloat16, float>();
  dispatch_kernel_float(x, [&]<typename T>() { body.template operator()<T, T>(); });
}

// dy is the last operand.
Refusal accept_grad(const OpCall& call, Results results) {
  return first_of({accept_norm(call, results),
                   refuse_mixed(call.operands[0], call.operands[call.operands.size() - 1])});
}

void run_layer_norm(const KernelArgs& args) {
  const auto& x = args.operands[0];
  const RowsOf shape(x.type.shape);
  dispatch_norm(args, [&]<typename T, typename W>() {
    using A = simd::Accumulator<T>;
    layer_norm_forward(shape.rows, shape.columns, x.as<T>(), args.operands[1].as<W>(),
                       args.operands[2].as<W>(), args.instruction.attributes.number(Attr::epsilon),
                       args.results[0].as<T>(), args.results[1].as<A>(), args.results[2].as<A>());
  });
}

// (x, gamma, mean, rstd, dy) -> (dx, dgamma, dbeta)
void run_layer_norm_grad(const KernelArgs& args) {
  const auto& x = args.operands[0];
  const RowsOf shape(x.type.shape);
  dispatch_norm(args, [&]<typename T, typename W>() {
    using A = simd::Accumulator<T>;
    layer_norm_backward(shape.rows, shape.columns, args.operands[4].as<T>(), x.as<T>(),
                        args.operands[1].as<W>(), args.operands[2].as<A>(),
                        args.operands[3].as<A>(), args.results[0].as<T>(), args.results[1].as<A>(),
                        args.results[2].as<A>(), args.workspace);
  });
}

void run_rms_norm(const KernelArgs& args) {
  const auto& x = args.operands[0];
  const RowsOf shape(x.type.shape);
  dispatch_norm(args, [&]<typename T, typename W>() {
    rms_norm_forward(shape.rows, shape.columns, x.as<T>(), args.operands[1].as<W>(),
                     args.instruction.attributes.number(Attr::epsilon), args.results[0].as<T>(),
                     args.results[1].as<simd::Accumulator<T>>());
  });
}

// (x, gamma, rstd, dy) -> (dx, dgamma)
void run_rms_norm_grad(const KernelArgs& args) {
  const auto& x = args.operands[0];
  const RowsOf shape(x.type.shape);
  dispatch_norm(args, [&]<typename T, typename W>() {
    using A = simd::Accumulator<T>;
    rms_norm_backward(shape.rows, shape.columns, args.operands[3].as<T>(), x.as<T>(),
                      args.operands[1].as<W>(), args.operands[2].as<A>(), args.results[0].as<T>(),
                      args.results[1].as<A>(), args.workspace);
  });
}

template <int64_t (*kBytes)(int64_t, int64_t, int64_t)>
int64_t grad_workspace(const OpCall& call, Results) {
  const RowsOf shape(call.operands[0].shape);
  return kBytes(shape.rows, shape.columns, accumulator_bytes(call.operands[0].dtype));
}

// Result 0 (y, or dx over dy) is written row by row after its row was read.
template <int kOperand>
int over(const OpCall&, int result) {
  return result == 0 ? kOperand : -1;
}

Refusal accept_squares(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

void run_squares(const KernelArgs& args) {
  const auto& x = args.operands[0];
  dispatch_kernel_float(x.type.dtype, [&]<typename T>() {
    using A = simd::Accumulator<T>;
    *args.results[0].as<A>() = A(sum_of_squares(x.type.elements(), x.as<T>(), args.workspace));
  });
}

void run_max_abs(const KernelArgs& args) {
  const auto& x = args.operands[0];
  dispatch_kernel_float(x.type.dtype, [&]<typename T>() {
    using A = simd::Accumulator<T>;
    *args.results[0].as<A>() = A(max_abs(x.type.elements(), x.as<T>(), args.workspace));
  });
}

}  // namespace

void register_norms(KernelTable& table) {
  Kernel forward = make_kernel("cpu.layer_norm", accept_layer_norm, run_layer_norm);
  forward.in_place = over<0>;
  table.add(ops::kLayerNorm, forward);
  Kernel backward = make_kernel("cpu.layer_norm_grad", accept_grad, run_layer_norm_grad);
  backward.workspace_bytes = grad_workspace<layer_norm_backward_workspace>;
  backward.in_place = over<4>;
  table.add(ops::kLayerNormGrad, backward);

  Kernel rms = make_kernel("cpu.rms_norm", accept_norm, run_rms_norm);
  rms.in_place = over<0>;
  table.add(ops::kRmsNorm, rms);
  Kernel rms_grad = make_kernel("cpu.rms_norm_grad", accept_grad, run_rms_norm_grad);
  rms_grad.workspace_bytes = grad_workspace<rms_norm_backward_workspace>;
  rms_grad.in_place = over<3>;
  table.add(ops::kRmsNormGrad, rms_grad);

  Kernel squares = make_kernel("cpu.sum_of_squares", accept_squares, run_squares);
  squares.workspace_bytes = [](const OpCall& call, Results) {
    return sum_of_squares_workspace(call.operands[0].elements());
  };
  table.add(ops::kSumOfSquares, squares);

  Kernel largest = make_kernel("cpu.max_abs", accept_squares, run_max_abs);
  largest.workspace_bytes = [](const OpCall& call, Results) { return max_abs_workspace(call.operands[0].elements()); };
  table.add(ops::kMaxAbs, largest);
}

}  // namespace tessera::cpu
