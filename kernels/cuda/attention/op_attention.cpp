#include "core/ops/attention.h"

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/attention/hopper_attention.h"
#include "kernels/cuda/attention/rotary.h"
#include "kernels/cuda/device/tensor_map.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

using ops::kAttentionGradOperands;
using ops::kAttentionOperands;

bool has_segments(const OpCall& call, size_t own) { return ops::attention_extras(own, call).q_segments >= 0; }

// Ranges of the segments of queries and keys.
int64_t count_ranges(const Shape& q, const Shape& k) {
  return segment_ranges(q[0], q[1]) + segment_ranges(k[0], k[1]);
}
int64_t range_bytes(const OpCall& call, size_t own) {
  if (!has_segments(call, own)) return 0;
  return count_ranges(call.operands[0].shape, call.operands[1].shape) * static_cast<int64_t>(sizeof(SegmentRange));
}

// Operands (q, k, v, ...), of which `own` are always there. The ranges of segments begin at `ranges`.
AttentionShape shape_of(const KernelArgs& args, size_t own, std::byte* ranges) {
  const Attributes& attributes = args.instruction.attributes;
  const Shape &q = args.operands[0].type.shape, &k = args.operands[1].type.shape;
  AttentionShape shape;
  shape.batch = static_cast<int>(q[0]);
  shape.queries = static_cast<int>(q[1]);
  shape.keys = static_cast<int>(k[1]);
  shape.heads = static_cast<int>(q[2]);
  shape.kv_heads = static_cast<int>(k[2]);
  shape.head_dim = static_cast<int>(q[3]);
  shape.causal = attributes.flag(Attr::causal);
  shape.scale = static_cast<float>(attributes.number(Attr::scale));
  if (const int64_t window = attributes.get_or<int64_t>(Attr::window, 0); window > 0)
    shape.window = static_cast<int>(window);
  const auto operand = [&](int i) -> const TensorView& { return args.operands[static_cast<size_t>(i)]; };
  const auto at = ops::attention_extras(own, args.operands.size(), [&](int i) { return operand(i).type.dtype; });
  if (at.distance_bias >= 0) {
    shape.bias = operand(at.distance_bias).as<float>();
    shape.bias_size = static_cast<int>(operand(at.distance_bias).type.shape[1]);
    shape.bias_origin = attributes.get_or<int64_t>(Attr::bias_origin, 0);
  }
  if (at.q_segments >= 0) {
    shape.q_segments = operand(at.q_segments).as<int32_t>();
    shape.k_segments = operand(at.k_segments).as<int32_t>();
    shape.q_ranges = reinterpret_cast<SegmentRange*>(ranges);
    const bool is_same = shape.q_segments == shape.k_segments && q[1] == k[1];
    shape.k_ranges = is_same ? shape.q_ranges : shape.q_ranges + segment_ranges(q[0], q[1]);
  }
  if (at.start >= 0) shape.start = operand(at.start).as<int64_t>();
  return shape;
}

Refusal refuse_common(const OpCall& call, size_t own) {
  constexpr int64_t kMost = int64_t{1} << 30, kMostLength = int64_t{1} << 28, kMostOrigin = int64_t{1} << 40;
  const Shape &q = call.operands[0].shape, &k = call.operands[1].shape;
  const double scale = call.attributes.number(Attr::scale);
  // The largest score is found before scaling.
  if (!(scale > 0)) return cat("scale ", scale, " is not positive");
  if (std::max(q[1], k[1]) >= kMostLength) return cat("lengths ", q[1], " and ", k[1], " are not below 2^28");
  if (std::max({q[0], q[2], q[2] * q[3]}) >= kMost) return cat("sizes of ", call.operands[0], " are not below 2^30");
  const int64_t window = call.attributes.get_or<int64_t>(Attr::window, 0),
                origin = call.attributes.get_or<int64_t>(Attr::bias_origin, 0);
  if (window >= kMostLength) return cat("window ", window, " is not below 2^28");
  if (std::max(origin, -origin) >= kMostOrigin) return cat("bias_origin ", origin, " is not within 2^40");
  const int bias = ops::attention_extras(own, call).distance_bias;
  if (bias >= 0 && call.operands[static_cast<size_t>(bias)].shape[1] >= kMostLength)
    return cat("distance_bias ", call.operands[static_cast<size_t>(bias)], " is not shorter than 2^28");
  return std::nullopt;
}

template <size_t kOwn>
Refusal accept_tensor_cores(const OpCall& call, Results) {
  const TensorType& q = call.operands[0];
  const int64_t dim = q.shape[3];
  if (q.dtype != DType::bf16) return cat("the tensor cores' kernel is for bf16, not ", q.dtype);
  if (dim < 8 || dim % 8 != 0 || dim > kMaxTensorHeadDim)
    return cat("head_dim ", dim, " is not a multiple of 8 from 8 to ", kMaxTensorHeadDim);
  return refuse_common(call, kOwn);
}

template <size_t kOwn>
Refusal accept_plain(const OpCall& call, Results) {
  const TensorType& q = call.operands[0];
  const int64_t dim = q.shape[3];
  if (dim < 1 || dim > kMaxPlainHeadDim) return cat("head_dim ", dim, " is not from 1 to ", kMaxPlainHeadDim);
  return first_of({refuse_float(q), refuse_common(call, kOwn)});
}

AttentionShape begin_forward(const KernelArgs& args) {
  const AttentionShape shape = shape_of(args, kAttentionOperands, args.workspace);
  find_segment_ranges(shape, stream_of(args));
  return shape;
}

bool is_for_hopper(const KernelArgs& args, const AttentionShape& shape) {
  const Context& context = context_of(args.stream);
  return hopper_attention_takes(shape, context.major, context.minor);
}
template <size_t kOwn>
void prepare_tensor_cores(const KernelArgs& args) {
  if (is_for_hopper(args, shape_of(args, kOwn, nullptr))) prepare_tensor_maps();
}

void run_tensor_cores(const KernelArgs& args) {
  const AttentionShape shape = begin_forward(args);
  const auto& in = args.operands;
  const auto forward = is_for_hopper(args, shape) ? hopper_attention_forward : tensor_attention_forward;
  forward(shape, in[0].as<bf16>(), in[1].as<bf16>(), in[2].as<bf16>(), args.results[0].as<bf16>(),
          args.results[1].as<float>(), stream_of(args));
}

void run_plain(const KernelArgs& args) {
  const auto& in = args.operands;
  const AttentionShape shape = begin_forward(args);
  dispatch_float(in[0].type.dtype, [&]<typename T>() {
    plain_attention_forward(shape, in[0].as<T>(), in[1].as<T>(), in[2].as<T>(), args.results[0].as<T>(),
                            args.results[1].as<float>(), stream_of(args));
  });
}

int64_t forward_workspace(const OpCall& call, Results) { return range_bytes(call, kAttentionOperands); }

// ---- The gradient: (q, k, v, out, lse, dout, ...) -> (dq, dk, dv, d_distance_bias?). Its workspace holds statistics
// of rows, ranges of segments and partial sums of the bias' gradient, in this order.

int64_t statistics_bytes(const Shape& q) { return q[0] * q[1] * q[2] * static_cast<int64_t>(sizeof(RowStatistics)); }

int64_t grad_workspace(const OpCall& call, Results) {
  const Shape &q = call.operands[0].shape, &k = call.operands[1].shape;
  const int64_t partials = call.attributes.flag(Attr::bias_gradient) ? bias_gradient_bytes(q[0], q[2], q[1], k[1]) : 0;
  return statistics_bytes(q) + range_bytes(call, kAttentionGradOperands) + partials;
}

struct Backward {
  AttentionShape shape;
  RowStatistics* statistics;
  float *partials, *d_bias;  // null where the bias' gradient is not asked for
};

template <typename T>
Backward begin_backward(const KernelArgs& args) {
  const Shape &q = args.operands[0].type.shape, &k = args.operands[1].type.shape;
  std::byte* ranges = args.workspace + statistics_bytes(q);
  Backward backward{shape_of(args, kAttentionGradOperands, ranges), reinterpret_cast<RowStatistics*>(args.workspace)};
  if (args.results.size() > 3) {
    auto* behind = reinterpret_cast<SegmentRange*>(ranges);
    if (backward.shape.q_segments != nullptr) behind += count_ranges(q, k);
    backward.partials = reinterpret_cast<float*>(behind);
    backward.d_bias = args.results[3].as<float>();
  }
  find_segment_ranges(backward.shape, stream_of(args));
  attention_statistics(backward.shape, args.operands[3].as<T>(), args.operands[4].as<float>(),
                       args.operands[5].as<T>(), backward.statistics, stream_of(args));
  return backward;
}

void run_grad_tensor_cores(const KernelArgs& args) {
  const Backward backward = begin_backward<bf16>(args);
  const auto &in = args.operands, &out = args.results;
  const bf16 *q = in[0].as<bf16>(), *k = in[1].as<bf16>(), *v = in[2].as<bf16>(), *dout = in[5].as<bf16>();
  const cudaStream_t stream = stream_of(args);
  if (backward.d_bias)
    tensor_bias_gradient(backward.shape, q, k, v, backward.statistics, dout, backward.partials, backward.d_bias,
                         stream);
  const auto run = is_for_hopper(args, backward.shape) ? hopper_attention_backward : tensor_attention_backward;
  run(backward.shape, q, k, v, backward.statistics, dout, out[0].as<bf16>(), out[1].as<bf16>(), out[2].as<bf16>(),
      stream);
}

void run_grad_plain(const KernelArgs& args) {
  dispatch_float(args.operands[0].type.dtype, [&]<typename T>() {
    const Backward backward = begin_backward<T>(args);
    const auto &in = args.operands, &out = args.results;
    const T *q = in[0].as<T>(), *k = in[1].as<T>(), *v = in[2].as<T>(), *dout = in[5].as<T>();
    const cudaStream_t stream = stream_of(args);
    if (backward.d_bias)
      plain_bias_gradient(backward.shape, q, k, v, backward.statistics, dout, backward.partials, backward.d_bias,
                          stream);
    plain_attention_backward(backward.shape, q, k, v, backward.statistics, dout, out[0].as<T>(), out[1].as<T>(),
                             out[2].as<T>(), stream);
  });
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
  for (Kernel kernel : {make_kernel("cuda.attention", accept_tensor_cores<kAttentionOperands>, run_tensor_cores),
                        make_kernel("cuda.attention_plain", accept_plain<kAttentionOperands>, run_plain)}) {
    kernel.workspace_bytes = forward_workspace;
    if (kernel.run == run_tensor_cores) kernel.prepare = prepare_tensor_cores<kAttentionOperands>;
    // A block reads its queries whole, and is the only one that writes their place.
    kernel.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
    table.add(ops::kAttention, kernel);
  }
  for (Kernel kernel :
       {make_kernel("cuda.attention_grad", accept_tensor_cores<kAttentionGradOperands>, run_grad_tensor_cores),
        make_kernel("cuda.attention_grad_plain", accept_plain<kAttentionGradOperands>, run_grad_plain)}) {
    kernel.workspace_bytes = grad_workspace;
    if (kernel.run == run_grad_tensor_cores) kernel.prepare = prepare_tensor_cores<kAttentionGradOperands>;
    // dq over dout: it comes last, block by block as in the forward pass.
    kernel.in_place = [](const OpCall&, int result) { return result == 0 ? 5 : -1; };
    table.add(ops::kAttentionGrad, kernel);
  }
  Kernel turn = make_kernel("cuda.rotary", accept_rotary, run_rotary);
  turn.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
  table.add(ops::kRotary, turn);
}

}  // namespace tessera::cuda
