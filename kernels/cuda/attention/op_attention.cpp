#include "core/ops/attention.h"

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/attention/rotary.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// Operands (q, k, v, ...); `start` is their index of the optional start operand.
AttentionShape shape_of(const KernelArgs& args, size_t start) {
  const Shape &q = args.operands[0].type.shape, &k = args.operands[1].type.shape;
  AttentionShape shape;
  shape.batch = static_cast<int>(q[0]);
  shape.queries = static_cast<int>(q[1]);
  shape.keys = static_cast<int>(k[1]);
  shape.heads = static_cast<int>(q[2]);
  shape.kv_heads = static_cast<int>(k[2]);
  shape.head_dim = static_cast<int>(q[3]);
  shape.causal = args.instruction.attributes.flag(Attr::causal);
  shape.scale = static_cast<float>(args.instruction.attributes.number(Attr::scale));
  if (args.operands.size() > start) shape.start = args.operands[start].as<int64_t>();
  return shape;
}

Refusal refuse_extras(const OpCall& call) {
  // attention_grad's operand 3 is out, like q; attention's is an optional operand or nothing.
  const bool is_grad = call.operands.size() > 3 && call.operands[3].rank() == 4;
  const auto at = ops::attention_extras(is_grad ? ops::kAttentionGradOperands : ops::kAttentionOperands, call);
  if (call.attributes.get_or<int64_t>(Attr::window, 0) > 0) return "it has no sliding window";
  if (at.distance_bias >= 0) return "it adds no bias by distance";
  if (at.q_segments >= 0) return "it knows no segments";
  return std::nullopt;
}

Refusal refuse_common(const OpCall& call) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const Shape &q = call.operands[0].shape, &k = call.operands[1].shape;
  const double scale = call.attributes.number(Attr::scale);
  // The largest score is found before scaling.
  if (!(scale > 0)) return cat("scale ", scale, " is not positive");
  if (std::max(q[1], k[1]) >= kMost) return cat("lengths ", q[1], " and ", k[1], " are not below 2^30");
  if (std::max({q[0], q[2], q[2] * q[3]}) >= kMost) return cat("sizes of ", call.operands[0], " are not below 2^30");
  return refuse_extras(call);
}

Refusal accept_tensor_cores(const OpCall& call, Results) {
  const TensorType& q = call.operands[0];
  const int64_t dim = q.shape[3];
  if (q.dtype != DType::bf16) return cat("the tensor cores' kernel is for bf16, not ", q.dtype);
  if (dim < 8 || dim % 8 != 0 || dim > kMaxTensorHeadDim)
    return cat("head_dim ", dim, " is not a multiple of 8 from 8 to ", kMaxTensorHeadDim);
  return refuse_common(call);
}

Refusal accept_plain(const OpCall& call, Results) {
  const TensorType& q = call.operands[0];
  const int64_t dim = q.shape[3];
  if (dim < 1 || dim > kMaxPlainHeadDim) return cat("head_dim ", dim, " is not from 1 to ", kMaxPlainHeadDim);
  return first_of({refuse_float(q), refuse_common(call)});
}

void run_tensor_cores(const KernelArgs& args) {
  const auto& in = args.operands;
  tensor_attention_forward(shape_of(args, 3), in[0].as<bf16>(), in[1].as<bf16>(), in[2].as<bf16>(),
                           args.results[0].as<bf16>(), args.results[1].as<float>(), stream_of(args));
}

void run_plain(const KernelArgs& args) {
  const auto& in = args.operands;
  dispatch_float(in[0].type.dtype, [&]<typename T>() {
    plain_attention_forward(shape_of(args, 3), in[0].as<T>(), in[1].as<T>(), in[2].as<T>(),
                            args.results[0].as<T>(), args.results[1].as<float>(), stream_of(args));
  });
}

// (q, k, v, out, lse, dout, start?) -> (dq, dk, dv)
template <typename T>
RowStatistics* make_statistics(const AttentionShape& shape, const KernelArgs& args) {
  auto* statistics = reinterpret_cast<RowStatistics*>(args.workspace);
  attention_statistics(shape, args.operands[3].as<T>(), args.operands[4].as<float>(), args.operands[5].as<T>(),
                       statistics, stream_of(args));
  return statistics;
}

void run_grad_tensor_cores(const KernelArgs& args) {
  const AttentionShape shape = shape_of(args, 6);
  const auto &in = args.operands, &out = args.results;
  tensor_attention_backward(shape, in[0].as<bf16>(), in[1].as<bf16>(), in[2].as<bf16>(),
                            make_statistics<bf16>(shape, args), in[5].as<bf16>(), out[0].as<bf16>(),
                            out[1].as<bf16>(), out[2].as<bf16>(), stream_of(args));
}

void run_grad_plain(const KernelArgs& args) {
  const AttentionShape shape = shape_of(args, 6);
  const auto &in = args.operands, &out = args.results;
  dispatch_float(in[0].type.dtype, [&]<typename T>() {
    plain_attention_backward(shape, in[0].as<T>(), in[1].as<T>(), in[2].as<T>(), make_statistics<T>(shape, args),
                             in[5].as<T>(), out[0].as<T>(), out[1].as<T>(), out[2].as<T>(), stream_of(args));
  });
}

int64_t grad_workspace(const OpCall& call, Results) {
  const Shape& q = call.operands[0].shape;
  return q[0] * q[1] * q[2] * static_cast<int64_t>(sizeof(RowStatistics));
}

Refusal accept_rotary(const OpCall& call, Results) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const Shape& x = call.operands[0].shape;
  if (x[3] > 2 * kMaxRotaryPairs) return cat("head_dim ", x[3], " is above ", 2 * kMaxRotaryPairs);
  if (std::max({x[0], x[1], x[2] * x[3]}) >= kMost)
    return cat("sizes of ", call.operands[0], " are not below 2^30");
  return refuse_float(call.operands[0]);
}

void run_rotary(const KernelArgs& args) {
  const auto& x = args.operands[0];
  const Shape& dims = x.type.shape;
  RotaryShape shape;
  shape.batch = static_cast<int>(dims[0]);
  shape.length = static_cast<int>(dims[1]);
  shape.heads = static_cast<int>(dims[2]);
  shape.head_dim = static_cast<int>(dims[3]);
  shape.theta = args.instruction.attributes.number(Attr::theta);
  shape.inverse = args.instruction.attributes.flag(Attr::inverse);
  if (args.operands.size() > 1) shape.start = args.operands[1].as<int64_t>();
  dispatch_float(x.type.dtype,
                 [&]<typename T>() { rotary(shape, x.as<T>(), args.results[0].as<T>(), stream_of(args)); });
}

}  // namespace

void register_attention(KernelTable& table) {
  for (Kernel kernel : {make_kernel("cuda.attention", accept_tensor_cores, run_tensor_cores),
                        make_kernel("cuda.attention_plain", accept_plain, run_plain)}) {
    // A block reads its queries whole, and is the only one that writes their place.
    kernel.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
    table.add(ops::kAttention, kernel);
  }
  for (Kernel kernel : {make_kernel("cuda.attention_grad", accept_tensor_cores, run_grad_tensor_cores),
                        make_kernel("cuda.attention_grad_plain", accept_plain, run_grad_plain)}) {
    kernel.workspace_bytes = grad_workspace;
    // dq over dout: it comes last, block by block as in the forward pass.
    kernel.in_place = [](const OpCall&, int result) { return result == 0 ? 5 : -1; };
    table.add(ops::kAttentionGrad, kernel);
  }
  Kernel turn = make_kernel("cuda.rotary", accept_rotary, run_rotary);
  turn.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
  table.add(ops::kRotary, turn);
}

}  // namespace tessera::cuda
