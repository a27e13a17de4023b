// adamw and sum_of_squares, of one tensor and of many.
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/optimizer/adamw.h"
#include "kernels/cuda/optimizer/sum_of_squares.h"
#include "kernels/cuda/random/shard_places.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// ---- adamw and multi_adamw ----------------------------------------------------------------------

Refusal accept_adamw(const OpCall& call, Results) {
  if (call.operands[3].dtype != DType::f32) return cat("compiled for gradients in f32, not ", call.operands[3].dtype);
  const ops::AdamWLayout layout = ops::adamw_layout(call);
  for (size_t t = 0; layout.seed && t < layout.tensors.size(); ++t) {
    const ops::AdamWLayout::Tensor& tensor = layout.tensors[t];
    if (Refusal refusal = refuse_places<kMaxAdamWRank>(call.operands[ops::operand_of(t, 0)].shape, tensor.strides,
                                                       tensor.start_strides.size()))
      return refusal;
  }
  return std::nullopt;
}

AdamWFactors factors_of(const Attributes& attributes) {
  const double beta1 = attributes.number(Attr::beta1), beta2 = attributes.number(Attr::beta2);
  const auto f32 = [](double x) { return static_cast<float>(x); };
  return {f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2), f32(attributes.number(Attr::epsilon)),
          static_cast<uint64_t>(attributes.get_or<int64_t>(Attr::seed, 0))};
}

void run_adamw(const KernelArgs& args) {
  std::vector<TensorType> types;
  for (const TensorView& operand : args.operands) types.push_back(operand.type);
  const ops::AdamWLayout layout = ops::adamw_layout({types, args.instruction.attributes});
  std::vector<AdamWTensor> tensors;
  for (size_t t = 0; t < layout.tensors.size(); ++t) {
    const TensorView* in = &args.operands[ops::operand_of(t, 0)];
    const TensorView* out = &args.results[ops::result_of(t, 0)];
    const ops::AdamWLayout::Tensor& own = layout.tensors[t];
    AdamWTensor tensor{in[0].type.elements(), in[0].data, in[1].data, in[2].data, in[3].as<const float>(),
                       out[0].data, out[1].data, out[2].data, static_cast<float>(own.weight_decay)};
    if (layout.seed) {
      tensor.site = static_cast<uint32_t>(own.site);
      tensor.places = places_of<kMaxAdamWRank>(in[0].type.shape, own.strides,
                                               args.operands.subspan(own.first_start, own.start_strides.size()),
                                               own.start_strides);
    }
    tensors.push_back(tensor);
  }
  const auto scalar = [&](size_t i) { return args.operands[layout.scalars + i].as<const float>(); };
  AdamWScalars scalars{scalar(0), scalar(1), scalar(2), scalar(3)};
  if (layout.seed) scalars.step = args.operands[layout.scalars + 4].as<const int64_t>();
  adamw(tensors, types[0].dtype == DType::bf16, types[1].dtype == DType::bf16, scalars,
        factors_of(args.instruction.attributes), stream_of(args));
}

// ---- sum_of_squares and multi_sum_of_squares ----------------------------------------------------

Refusal accept_squares(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

int64_t squares_workspace(const OpCall& call, Results) {
  int64_t bytes = 0;
  for (const TensorType& operand : call.operands) bytes += sum_of_squares_workspace(operand.elements());
  return bytes;
}

void run_squares(const KernelArgs& args) {
  std::vector<Squares> tensors;
  for (size_t i = 0; i < args.operands.size(); ++i)
    tensors.push_back({args.operands[i].type.elements(), args.operands[i].data, args.results[i].as<float>()});
  dispatch_float(args.operands[0].type.dtype,
                 [&]<typename T>() { sums_of_squares<T>(tensors, args.workspace, stream_of(args)); });
}

Kernel squares_kernel(const char* name) {
  Kernel kernel = make_kernel(name, accept_squares, run_squares);
  kernel.workspace_bytes = squares_workspace;
  return kernel;
}

}  // namespace

void register_optimizer(KernelTable& table) {
  // In place by the ops' own alias.
  table.add(ops::kAdamW, make_kernel("cuda.adamw", accept_adamw, run_adamw));
  table.add(ops::kMultiAdamW, make_kernel("cuda.multi_adamw", accept_adamw, run_adamw));
  table.add(ops::kSumOfSquares, squares_kernel("cuda.sum_of_squares"));
  table.add(ops::kMultiSumOfSquares, squares_kernel("cuda.multi_sum_of_squares"));
}

}  // namespace tessera::cuda
