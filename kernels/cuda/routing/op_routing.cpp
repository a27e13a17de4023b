// The router of experts, and the moves of tokens to them and back.
#include "core/ops/permute_tokens.h"
#include "core/ops/routing.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"
#include "kernels/cuda/routing/permute_tokens.h"
#include "kernels/cuda/routing/routing.h"

namespace tessera::cuda {
namespace {

// ---- top_k_routing(logits, bias?), top_k_routing_grad(logits, experts, d_weights) -----------------

Refusal accept_routing(const OpCall& call, Results results) {
  const int64_t experts = call.operands[0].shape[1],
                k = call.operands.size() == 3 ? call.operands[1].shape[1] : results[0].shape[1];
  Refusal large;
  if (experts > kMostExperts) large = cat(experts, " experts are more than a warp's ", kMostExperts);
  if (k > kMostChosen) large = cat(k, " experts of a token are more than ", kMostChosen);
  return first_of({refuse_float(call.operands[0]), large});
}

RoutingShape routing_shape(const KernelArgs& args, int64_t k) {
  const TensorType& logits = args.operands[0].type;
  const ops::RoutingKind kind = ops::routing_kind(args.instruction.attributes);
  RoutingShape shape;
  shape.tokens = logits.shape[0];
  shape.experts = static_cast<int>(logits.shape[1]);
  shape.k = static_cast<int>(k);
  shape.is_sigmoid = kind.is_sigmoid;
  shape.normalize = kind.normalize;
  shape.is_bf16 = logits.dtype == DType::bf16;
  shape.scale = static_cast<float>(kind.scale);
  return shape;
}

void run_routing(const KernelArgs& args) {
  RoutingShape shape = routing_shape(args, args.results[0].type.shape[1]);
  const bool has_bias = args.operands.size() > 1;
  if (has_bias && args.operands[1].type.rank() == 2) shape.bias_step = shape.experts;
  top_k_routing(shape, args.operands[0].data, has_bias ? args.operands[1].as<float>() : nullptr,
                args.results[0].as<float>(), args.results[1].as<int32_t>(), stream_of(args));
}

void run_routing_grad(const KernelArgs& args) {
  top_k_routing_grad(routing_shape(args, args.operands[1].type.shape[1]), args.operands[0].data,
                     args.operands[1].as<int32_t>(), args.operands[2].as<float>(), args.results[0].data,
                     stream_of(args));
}

// ---- expert_order(experts) ----------------------------------------------------------------------

Refusal accept_order(const OpCall&, Results) { return std::nullopt; }

void run_order(const KernelArgs& args) {
  expert_order(args.operands[0].as<int32_t>(), args.operands[0].type.elements(), args.results[1].type.elements(),
               args.results[0].as<int32_t>(), args.results[1].as<int32_t>(), args.workspace, stream_of(args));
}

// ---- permute_tokens(x, places, weights?), unpermute_tokens(rows, places, weights?), token_dots(rows, places, x) --

Refusal accept_moves(const OpCall& call, Results) { return refuse_float(call.operands[0]); }

TokenMoves moves_of(const KernelArgs& args, const TensorType& rows) {
  const Shape& places = args.operands[1].type.shape;
  return {places[0], places[1], rows.shape[0], rows.shape[1], args.operands[1].as<int32_t>()};
}
const float* weights_of(const KernelArgs& args) {
  return args.operands.size() > 2 ? args.operands[2].as<float>() : nullptr;
}

void run_permute(const KernelArgs& args) {
  const TensorView &x = args.operands[0], &rows = args.results[0];
  dispatch_float(x.type.dtype, [&]<typename T>() {
    permute_tokens<T>(moves_of(args, rows.type), x.as<T>(), weights_of(args), rows.as<T>(), stream_of(args));
  });
}

void run_unpermute(const KernelArgs& args) {
  const TensorView& rows = args.operands[0];
  dispatch_float(rows.type.dtype, [&]<typename T>() {
    unpermute_tokens<T>(moves_of(args, rows.type), rows.as<T>(), weights_of(args), args.results[0].as<T>(),
                        stream_of(args));
  });
}

void run_dots(const KernelArgs& args) {
  const TensorView& rows = args.operands[0];
  dispatch_float(rows.type.dtype, [&]<typename T>() {
    token_dots<T>(moves_of(args, rows.type), rows.as<T>(), args.operands[2].as<T>(), args.results[0].as<float>(),
                  stream_of(args));
  });
}

}  // namespace

void register_routing(KernelTable& table) {
  table.add(ops::kTopKRouting, make_kernel("cuda.top_k_routing", accept_routing, run_routing));
  table.add(ops::kTopKRoutingGrad, make_kernel("cuda.top_k_routing_grad", accept_routing, run_routing_grad));
  Kernel order = make_kernel("cuda.expert_order", accept_order, run_order);
  order.workspace_bytes = [](const OpCall& call, Results results) {
    return expert_order_workspace(results[1].elements(), call.operands[0].elements());
  };
  table.add(ops::kExpertOrder, order);
  table.add(ops::kPermuteTokens, make_kernel("cuda.permute_tokens", accept_moves, run_permute));
  table.add(ops::kUnpermuteTokens, make_kernel("cuda.unpermute_tokens", accept_moves, run_unpermute));
  table.add(ops::kTokenDots, make_kernel("cuda.token_dots", accept_moves, run_dots));
}

}  // namespace tessera::cuda
