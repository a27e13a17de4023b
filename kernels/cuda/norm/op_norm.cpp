#include "core/ops/norm.h"

#include <vector>

#include "core/ops/residual_norm.h"
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

// add_*_norm is the norm's own call without the residual, operand 1; *_norm_grad_add without the last one.
template <Refusal (*kAccept)(const OpCall&, Results)>
Refusal accept_sum(const OpCall& call, Results results) {
  std::vector<TensorType> own(call.operands.begin(), call.operands.end());
  own.erase(own.begin() + 1);
  return kAccept({own, call.attributes}, results);
}
Refusal accept_grad_sum(const OpCall& call, Results results) {
  return accept_grad({call.operands.first(call.operands.size() - 1), call.attributes}, results);
}

// Calls body<T, W>() with the types of x and of the weights, whose first is operand `gamma`.
template <typename Body>
void dispatch_norm(const KernelArgs& args, size_t gamma, Body&& body) {
  const DType x = args.operands[0].type.dtype, weight = args.operands[gamma].type.dtype;
  if (x != weight) return body.template operator()<bf16, float>();
  dispatch_float(x, [&]<typename T>() { body.template operator()<T, T>(); });
}

// layer_norm(x, gamma, beta) -> (y, mean, rstd) and rms_norm(x, gamma) -> (y, rstd), or with a residual behind x
// and the sum as last result
template <bool kHasMean, bool kHasResidual>
void run_forward(const KernelArgs& args) {
  const RowsOf shape(args.operands[0].type.shape);
  constexpr size_t kGamma = kHasResidual ? 2 : 1;
  dispatch_norm(args, kGamma, [&]<typename T, typename W>() {
    NormForward<T, W> norm;
    norm.rows = shape.rows;
    norm.columns = shape.columns;
    norm.x = args.operands[0].as<T>();
    norm.gamma = args.operands[kGamma].as<W>();
    norm.epsilon = static_cast<float>(args.instruction.attributes.number(Attr::epsilon));
    norm.y = args.results[0].as<T>();
    norm.rstd = args.results[kHasMean ? 2 : 1].as<float>();
    if constexpr (kHasMean) {
      norm.beta = args.operands[kGamma + 1].as<W>();
      norm.mean = args.results[1].as<float>();
    }
    if constexpr (kHasResidual) {
      norm.residual = args.operands[1].as<T>();
      norm.sum = args.results[kHasMean ? 3 : 2].as<T>();
    }
    norm_forward(norm, stream_of(args));
  });
}

// layer_norm_grad(x, gamma, mean, rstd, dy) -> (dx, dgamma, dbeta) and
// rms_norm_grad(x, gamma, rstd, dy) -> (dx, dgamma), or with a residual as last operand
template <bool kHasMean, bool kHasResidual>
void run_backward(const KernelArgs& args) {
  const RowsOf shape(args.operands[0].type.shape);
  dispatch_norm(args, 1, [&]<typename T, typename W>() {
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
    if constexpr (kHasResidual) norm.residual = args.operands[kHasMean ? 5 : 4].as<T>();
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

// y over the residual, the sum over x.
template <bool kHasMean>
int over_sum(const OpCall&, int result) {
  return result == 0 ? 1 : result == (kHasMean ? 3 : 2) ? 0 : -1;
}

template <bool kHasMean>
Kernel backward_kernel(const char* name, Refusal (*accept)(const OpCall&, Results), void (*run)(const KernelArgs&)) {
  Kernel kernel = make_kernel(name, accept, run);
  kernel.workspace_bytes = backward_workspace<kHasMean>;
  kernel.in_place = over<kHasMean ? 4 : 3>;
  return kernel;
}

}  // namespace

void register_norms(KernelTable& table) {
  Kernel forward = make_kernel("cuda.layer_norm", accept_layer_norm, run_forward<true, false>);
  forward.in_place = over<0>;
  table.add(ops::kLayerNorm, forward);
  Kernel rms = make_kernel("cuda.rms_norm", accept_norm, run_forward<false, false>);
  rms.in_place = over<0>;
  table.add(ops::kRmsNorm, rms);

  Kernel add = make_kernel("cuda.add_layer_norm", accept_sum<accept_layer_norm>, run_forward<true, true>);
  add.in_place = over_sum<true>;
  table.add(ops::kAddLayerNorm, add);
  Kernel add_rms = make_kernel("cuda.add_rms_norm", accept_sum<accept_norm>, run_forward<false, true>);
  add_rms.in_place = over_sum<false>;
  table.add(ops::kAddRmsNorm, add_rms);

  table.add(ops::kLayerNormGrad, backward_kernel<true>("cuda.layer_norm_grad", accept_grad, run_backward<true, false>));
  table.add(ops::kRmsNormGrad, backward_kernel<false>("cuda.rms_norm_grad", accept_grad, run_backward<false, false>));
  table.add(ops::kLayerNormGradAdd,
            backward_kernel<true>("cuda.layer_norm_grad_add", accept_grad_sum, run_backward<true, true>));
  table.add(ops::kRmsNormGradAdd,
            backward_kernel<false>("cuda.rms_norm_grad_add", accept_grad_sum, run_backward<false, true>));
}

}  // namespace tessera::cuda
