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
  return shape;
}

Refusal refuse_extras(const OpCall& call, size_t own) {
  const ops::AttentionExtraIndices at = ops::attention_extras(own, call);
  if (call.attributes.get_or<int64_t>(Attr::window, 0) > 0) return "it has no sliding window";
  if (at.distance_bias >= 0) return "it adds no bias by distance";
  if (at.q_segments >= 0) return "it knows no segments";
  return std::nullopt;
}

template <size_t kOwn>
Refusal accept_attention(const OpCall& call, Results) {
  // The blocks of a head must stay in the second-level cache.
  const int64_t dim = call.operands[0].shape[3];
  Refusal wide;
  if (dim > 512) wide = cat("head_dim ", dim, " is above 512");
  return first_of({refuse_float(call.operands[0]), wide, refuse_extras(call, kOwn)});
}

void run_attention(const KernelArgs& args) {
  const auto &q = args.operands[0], &k = args.operands[1];
  AttentionShape shape = shape_of(q.type.shape, k.type.shape, args.instruction.attributes);
  shape.q_start = start_operand(args, 3);
  dispatch_kernel_float(q.type.dtype, [&]<typename T>() {
    attention_forward(shape, q.as<T>(), k.as<T>(), args.operands[2].as<T>(),
                      args.results[0].as<T>(), args.results[1].as<simd::Accumulator<T>>());
  });
}

// (q, k, v, out, lse, dout, start?) -> (dq, dk, dv)
void run_attention_grad(const KernelArgs& args) {
  const auto &q = args.operands[0], &k = args.operands[1];
  AttentionShape shape = shape_of(q.type.shape, k.type.shape, args.instruction.attributes);
  shape.q_start = start_operand(args, 6);
  dispatch_kernel_float(q.type.dtype, [&]<typename T>() {
    attention_backward(shape, q.as<T>(), k.as<T>(), args.operands[2].as<T>(),
                       args.operands[3].as<T>(), args.operands[4].as<simd::Accumulator<T>>(),
                       args.operands[5].as<T>(), args.results[0].as<T>(), args.results[1].as<T>(),
                       args.results[2].as<T>(), args.workspace);
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
  Kernel forward = make_kernel("cpu.attention", accept_attention<ops::kAttentionOperands>, run_attention);
  // A block of queries is read whole, by the one task that writes its place.
  forward.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
  table.add(ops::kAttention, forward);
  Kernel backward = make_kernel("cpu.attention_grad",
                                accept_attention<ops::kAttentionGradOperands>, run_attention_grad);
  backward.in_place = [](const OpCall&, int result) { return result == 0 ? 5 : -1; };
  backward.workspace_bytes = [](const OpCall& call, Results) {
    const AttentionShape shape =
        shape_of(call.operands[0].shape, call.operands[1].shape, call.attributes);
    return attention_backward_workspace(shape, accumulator_bytes(call.operands[0].dtype));
  };
  table.add(ops::kAttentionGrad, backward);
  Kernel turn = make_kernel("cpu.rotary", accept_rotary, run_rotary);
  turn.in_place = [](const OpCall&, int result) { return result == 0 ? 0 : -1; };
  table.add(ops::kRotary, turn);
}

}  // namespace tessera::cpu
