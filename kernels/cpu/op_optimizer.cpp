// adamw, multi_adamw and multi_sum_of_squares.
#include "core/ops/optimizer.h"

#include "core/ops/norm.h"
#include "kernels/cpu/adamw.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/sum_of_squares.h"

namespace tessera::cpu {
namespace {

// ---- adamw and multi_adamw ----------------------------------------------------------------------

// Of parameters and moments beside gradients in f32.
template <typename Body>
void dispatch_states(DType param, DType moment, Body&& body) {
  const bool narrow_param = param == DType::bf16, narrow_moment = moment == DType::bf16;
  if (narrow_param && narrow_moment) return body.template operator()<bfloat16, bfloat16>();
  if (narrow_param) return body.template operator()<bfloat16, float>();
  if (narrow_moment) return body.template operator()<float, bfloat16>();
  body.template operator()<float, float>();
}

Refusal accept_adamw(const OpCall& call, Results) {
  const bool is_narrow = call.operands[0].dtype == DType::bf16 || call.operands[1].dtype == DType::bf16;
  if (is_narrow && call.operands[3].dtype == DType::f64) return "states in bf16 are compiled for gradients in f32";
  return std::nullopt;
}

template <typename T>
AdamWStep step_of(const KernelArgs& args, const ops::AdamWLayout& layout) {
  const Attributes& attributes = args.instruction.attributes;
  const auto scalar = [&](size_t i) { return double{*args.operands[layout.scalars + i].as<T>()}; };
  AdamWStep step;
  step.learning_rate = scalar(0);
  step.grad_scale = scalar(1);
  step.bias_correction1 = scalar(2);
  step.bias_correction2 = scalar(3);
  step.beta1 = attributes.number(Attr::beta1);
  step.beta2 = attributes.number(Attr::beta2);
  step.epsilon = attributes.number(Attr::epsilon);
  return step;
}

ShardRuns runs_of(const KernelArgs& args, const ops::AdamWLayout::Tensor& tensor, const Shape& shape) {
  int64_t first = 0;
  for (size_t i = 0; i < tensor.start_strides.size(); ++i)
    first += *args.operands[tensor.first_start + i].as<int64_t>() * tensor.start_strides[i];
  return ShardRuns(shape, tensor.strides, first);
}

template <typename T, typename P, typename M>
void run_states(const KernelArgs& args, const ops::AdamWLayout& layout) {
  std::vector<AdamWTensor<T, P, M>> tensors;
  std::vector<ShardRuns> runs;
  runs.reserve(layout.tensors.size());
  for (size_t t = 0; t < layout.tensors.size(); ++t) {
    const TensorView* in = &args.operands[ops::operand_of(t, 0)];
    const TensorView* out = &args.results[ops::result_of(t, 0)];
    AdamWTensor<T, P, M> tensor{in[0].type.elements(), in[0].as<P>(), in[1].as<M>(), in[2].as<M>(),
                                in[3].as<T>(), out[0].as<P>(), out[1].as<M>(), out[2].as<M>()};
    tensor.weight_decay = layout.tensors[t].weight_decay;
    if (layout.seed) {
      runs.push_back(runs_of(args, layout.tensors[t], in[0].type.shape));
      tensor.runs = &runs.back();
      tensor.draw = {static_cast<uint64_t>(*layout.seed), static_cast<uint64_t>(layout.tensors[t].site),
                     static_cast<uint64_t>(*args.operands[layout.scalars + 4].as<int64_t>())};
    }
    tensors.push_back(tensor);
  }
  adamw<T, P, M>(step_of<T>(args, layout), tensors);
}

void run_adamw(const KernelArgs& args) {
  std::vector<TensorType> types;
  for (const TensorView& operand : args.operands) types.push_back(operand.type);
  const ops::AdamWLayout layout = ops::adamw_layout({types, args.instruction.attributes});
  if (types[3].dtype == DType::f64) return run_states<double, double, double>(args, layout);
  dispatch_states(types[0].dtype, types[1].dtype,
                  [&]<typename P, typename M>() { run_states<float, P, M>(args, layout); });
}

// ---- multi_sum_of_squares -----------------------------------------------------------------------

Refusal accept_squares(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

int64_t squares_workspace(const OpCall& call, Results) {
  int64_t bytes = 0;
  for (const TensorType& operand : call.operands) bytes += sum_of_squares_workspace(operand.elements());
  return bytes;
}

void run_squares(const KernelArgs& args) {
  dispatch_kernel_float(args.operands[0].type.dtype, [&]<typename T>() {
    std::vector<Squares<T>> tensors;
    for (const TensorView& x : args.operands) tensors.push_back({x.type.elements(), x.as<const T>()});
    std::vector<double> sums(tensors.size());
    sums_of_squares<T>(tensors, args.workspace, sums);
    for (size_t i = 0; i < sums.size(); ++i)
      *args.results[i].as<simd::Accumulator<T>>() = static_cast<simd::Accumulator<T>>(sums[i]);
  });
}

}  // namespace

void register_optimizer(KernelTable& table) {
  // In place by the ops' own alias.
  table.add(ops::kAdamW, make_kernel("cpu.adamw", accept_adamw, run_adamw));
  table.add(ops::kMultiAdamW, make_kernel("cpu.multi_adamw", accept_adamw, run_adamw));
  Kernel squares = make_kernel("cpu.multi_sum_of_squares", accept_squares, run_squares);
  squares.workspace_bytes = squares_workspace;
  table.add(ops::kMultiSumOfSquares, squares);
}

}  // namespace tessera::cpu
