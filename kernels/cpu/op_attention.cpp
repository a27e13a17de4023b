#include "core/ops/attention.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/rotary.h"

namespace tessera::cpu {
namespace {

AttentionShape shape_of(const Shape& q, const Shape& k, const Attributes& attributes) {
  AttentionShape shape;
  shape.batch = q[0];
  shape.q_len = q[1];
  shape.k_len = k[1];
  shape.heads = q[2];
  shape.kv_heads = k[2];
  shape.head_dim = q[3];
  shape.causal = attributes.flag(Attr::causal);
  shape.scale = attributes.number(Attr::scale);
  shape.window = attributes.get_or<int64_t>(Attr::window, 0);
  return shape;
}

// A call's sizes and the positions of its optional operands, behind the `own` first ones.
struct Call {
  Call(const KernelArgs& args, size_t own)
      : shape(shape_of(args.operands[0].type.shape, args.operands[1].type.shape,
                       args.instruction.attributes)),
        at(ops::attention_extras(own, args.operands.size(), [&](int i) {
          return args.operands[static_cast<size_t>(i)].type.dtype;
        })) {
    if (at.start >= 0) shape.q_start = start_operand(args, static_cast<size_t>(at.start));
  }
  template <typename Acc>
  AttentionExtras<Acc> extras(const KernelArgs& args) const {
    AttentionExtras<Acc> extras;
    if (at.distance_bias >= 0) {
      const auto& bias = args.operands[static_cast<size_t>(at.distance_bias)];
      extras.distance_bias = bias.as<Acc>();
      extras.distances = bias.type.shape[1];
      extras.bias_origin = args.instruction.attributes.get_or<int64_t>(Attr::bias_origin, 0);
    }
    if (at.q_segments >= 0) {
      extras.q_segments = args.operands[static_cast<size_t>(at.q_segments)].as<int32_t>();
      extras.k_segments = args.operands[static_cast<size_t>(at.k_segments)].as<int32_t>();
    }
    return extras;
  }

  AttentionShape shape;
  ops::AttentionExtraIndices at;
};

Refusal accept_attention(const OpCall& call, Results) {
  // The blocks of a head must stay in the second-level cache.
  const int64_t dim = call.operands[0].shape[3];
  Refusal wide;
  if (dim > 512) wide = cat("head_dim ", dim, " is above 512");
  return first_of({refuse_float(call.operands[0]), wide});
}

void run_attention(const KernelArgs& args) {
  const Call call(args, ops::kAttentionOperands);
  const auto& q = args.operands[0];
  dispatch_kernel_float(q.type.dtype, [&]<typename T>() {
    using Acc = simd::Accumulator<T>;
    attention_forward(call.shape, q.as<T>(), args.operands[1].as<T>(), args.operands[2].as<T>(),
                      args.results[0].as<T>(), args.results[1].as<Acc>(), call.extras<Acc>(args));
  });
}

// (q, k, v, out, lse, dout, optional...) -> (dq, dk, dv, d_distance_bias?)
void run_attention_grad(const KernelArgs& args) {
  const Call call(args, ops::kAttentionGradOperands);
  const auto& in = args.operands;
  dispatch_kernel_float(in[0].type.dtype, [&]<typename T>() {
    using Acc = simd::Accumulator<T>;
    Acc* dbias = args.results.size() > 3 ? args.results[3].as<Acc>() : nullptr;
    attention_backward(call.shape, in[0].as<T>(), in[1].as<T>(), in[2].as<T>(), in[3].as<T>(),
                       in[4].as<Acc>(), in[5].as<T>(), args.results[0].as<T>(),
                       args.results[1].as<T>(), args.results[2].as<T>(), args.workspace,
                       call.extras<Acc>(args), dbias);
  });
}

Refusal accept_rotary(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

void run_rotary(const KernelArgs& args) {
  const auto& x = args.operands[0];
  const Shape& dims = x.type.shape;
  RotaryShape shape{dims[0],
                    dims[1],
                    dims[2],
                    dims[3],
                    args.instruction.attributes.number(Attr::theta),
                    start_operand(args, 1),
                    args.instruction.attributes.flag(Attr::inverse)};
  dispatch_kernel_float(x.type.dtype,
                        [&]<typename T>() { rotary(shape, x.as<T>(), args.results[0].as<T>()); });
}

}  // namespace

void register_attention(KernelTable& table) {
  Kernel forward = make_kernel("cpu.attention", accept_attention, run_attention);
  // A block of queries is read whole, by the one task that writes its place.
  forward.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
  table.add(ops::kAttention, forward);
  Kernel backward = make_kernel("cpu.attention_grad", accept_attention, run_attention_grad);
  backward.in_place = [](const OpCall&, int result) { return result == 0 ? 5 : -1; };
  backward.workspace_bytes = [](const OpCall& call, Results results) {
    const AttentionShape shape =
        shape_of(call.operands[0].shape, call.operands[1].shape, call.attributes);
    return attention_backward_workspace(shape, accumulator_bytes(call.operands[0].dtype),
                                        results.size() > 3 ? results[3].shape[1] : 0);
  };
  table.add(ops::kAttentionGrad, backward);
  Kernel turn = make_kernel("cpu.rotary", accept_rotary, run_rotary);
  turn.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
  table.add(ops::kRotary, turn);
}

}  // namespace tessera::cpu
