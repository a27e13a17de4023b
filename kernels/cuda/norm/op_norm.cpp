#include "core/ops/norm.h"

#include "kernels/cuda/norm/norm.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// Weights are like x, or f32 beside bf16.
Refusal accept_norm(const OpCall& call, Results) {
  const TensorType &x = call.operands[0], &gamma = call.operands[1];
  Refusal mixed = refuse_mixed(x, gamma);
  if (x.dtype == DType::bf16 && gamma.dtype == DType::f32) mixed.reset();
  Refusal wide;
  if (const int64_t columns = RowsOf(x.shape).columns; columns > kNormMostColumns)
    wide = cat("rows of ", columns, " columns are longer than ", kNormMostColumns);
  return first_of({refuse_float(x), mixed, wide});
}
Refusal accept_layer_norm(const OpCall& call, Results results) {
  return first_of({accept_norm(call, results), refuse_mixed(call.operands[1], call.operands[2])});
}
// dy is the last operand.
Refusal accept_grad(const OpCall& call, Results results) {
  return first_of({accept_norm(call, results), refuse_mixed(call.operands[0], call.operands[call.operands.size() - 1])});
}

// Calls body<T, W>() with the types of x and of the weights.
template <typename Body>
void dispatch_norm(const KernelArgs& args, Body&& body) {
  const DType x = args.operands[0].type.dtype, weight = args.operands[1].type.dtype;
  if (x != weight) return body.template operator()<bf16, float>();
  dispatch_float(x, [&]<typename T>() { body.template operator()<T, T>(); });
}

// layer_norm(x, gamma, beta) -> (y, mean, rstd) and rms_norm(x, gamma) -> (y, rstd)
template <bool kHasMean>
void run_forward(const KernelArgs& args) {
  const RowsOf shape(args.operands[0].type.shape);
  dispatch_norm(args, [&]<typename T, typename W>() {
    NormForward<T, W> norm;
    norm.rows = shape.rows;
    norm.columns = shape.columns;
    norm.x = args.operands[0].as<T>();
    norm.gamma = args.operands[1].as<W>();
    norm.epsilon = static_cast<float>(args.instruction.attributes.number(Attr::epsilon));
    norm.y = args.results[0].as<T>();
    norm.rstd = args.results[kHasMean ? 2 : 1].as<float>();
    if constexpr (kHasMean) {
      norm.beta = args.operands[2].as<W>();
      norm.mean = args.results[1].as<float>();
    }
    norm_forward(norm, stream_of(args));
  });
}

// layer_norm_grad(x, gamma, mean, rstd, dy) -> (dx, dgamma, dbeta) and
// rms_norm_grad(x, gamma, rstd, dy) -> (dx, dgamma)
template <bool kHasMean>
void run_backward(const KernelArgs& args) {
  const RowsOf shape(args.operands[0].type.shape);
  dispatch_norm(args, [&]<typename T, typename W>() {
    NormBackward<T, W> norm;
    norm.rows = shape.rows;
    norm.columns = shape.columns;
    norm.x = args.operands[0].as<T>();
    norm.gamma = args.operands[1].as<W>();
    norm.rstd = args.operands[kHasMean ? 3 : 2].as<float>();
    norm.dy = args.operands[kHasMean ? 4 : 3].as<T>();
    norm.dx = args.results[0].as<T>();
    norm.dgamma = args.results[1].as<float>();
    if constexpr (kHasMean) {
      norm.mean = args.operands[2].as<float>();
      norm.dbeta = args.results[2].as<float>();
    }
    norm.workspace = reinterpret_cast<float*>(args.workspace);
    norm_backward(norm, stream_of(args));
  });
}

template <bool kHasMean>
int64_t backward_workspace(const OpCall& call, Results) {
  const RowsOf shape(call.operands[0].shape);
  return norm_backward_workspace(shape.rows, shape.columns, kHasMean);
}

// Result 0 (y over x, or dx over dy) is written by the threads that have read the row.
template <int kOperand>
int over(const OpCall&, int result) {
  return result == 0 ? kOperand : -1;
}

}  // namespace

void register_norms(KernelTable& table) {
  Kernel forward = make_kernel("cuda.layer_norm", accept_layer_norm, run_forward<true>);
  forward.in_place = over<0>;
  table.add(ops::kLayerNorm, forward);
  Kernel backward = make_kernel("cuda.layer_norm_grad", accept_grad, run_backward<true>);
  backward.workspace_bytes = backward_workspace<true>;
  backward.in_place = over<4>;
  table.add(ops::kLayerNormGrad, backward);

  Kernel rms = make_kernel("cuda.rms_norm", accept_norm, run_forward<false>);
  rms.in_place = over<0>;
  table.add(ops::kRmsNorm, rms);
  Kernel rms_grad = make_kernel("cuda.rms_norm_grad", accept_grad, run_backward<false>);
  rms_grad.workspace_bytes = backward_workspace<false>;
  rms_grad.in_place = over<3>;
  table.add(ops::kRmsNormGrad, rms_grad);
}

}  // namespace tessera::cuda
