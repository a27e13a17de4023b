// The ops along the vocabulary: embedding and the parts of softmax cross-entropy.
#include "core/ops/cross_entropy.h"
#include "core/ops/embedding.h"
#include "core/ops/loss.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

LogitsShape logits_shape(const KernelArgs& args, size_t own) {
  const RowsOf rows(args.operands[0].type.shape);
  return {rows.rows, rows.columns, start_operand(args, own),
          args.instruction.attributes.integer(Attr::valid_size)};
}

Refusal accept_max(const OpCall& call, Results) { return refuse_float(call.operands[0]); }
Refusal accept_sum(const OpCall& call, Results) {
  return first_of({refuse_float(call.operands[0]), refuse_id(call.operands[2])});
}

void run_max(const KernelArgs& args) {
  const auto& logits = args.operands[0];
  dispatch_kernel_float(logits.type.dtype, [&]<typename T>() {
    logits_max(logits_shape(args, 1), logits.as<T>(), args.results[0].as<simd::Accumulator<T>>());
  });
}

void run_sum(const KernelArgs& args) {
  const auto &logits = args.operands[0], &targets = args.operands[2];
  dispatch_kernel_float(logits.type.dtype, [&]<typename T>() {
    using A = simd::Accumulator<T>;
    dispatch_id(targets.type.dtype, [&]<typename Id>() {
      logits_sum(logits_shape(args, 3), logits.as<T>(), args.operands[1].as<A>(), targets.as<Id>(),
                 args.results[0].as<A>(), args.results[1].as<A>());
    });
  });
}

void run_sum_grad(const KernelArgs& args) {
  const auto &logits = args.operands[0], &targets = args.operands[2];
  dispatch_kernel_float(logits.type.dtype, [&]<typename T>() {
    using A = simd::Accumulator<T>;
    dispatch_id(targets.type.dtype, [&]<typename Id>() {
      logits_sum_grad(logits_shape(args, 5), logits.as<T>(), args.operands[1].as<A>(),
                      targets.as<Id>(), args.operands[3].as<A>(), args.operands[4].as<A>(),
                      args.results[0].as<T>());
    });
  });
}

// cross_entropy_with_grad(logits, targets, d_target, d_lse, lse_slope?)
Refusal accept_with_grad(const OpCall& call, Results) {
  return first_of({refuse_float(call.operands[0]), refuse_id(call.operands[1])});
}

void run_with_grad(const KernelArgs& args) {
  const auto &logits = args.operands[0], &targets = args.operands[1];
  dispatch_kernel_float(logits.type.dtype, [&]<typename T>() {
    using A = simd::Accumulator<T>;
    const CrossEntropyCotangents<A> cotangents{
        args.operands[2].as<A>(), args.operands[3].as<A>(),
        args.operands.size() > 4 ? args.operands[4].as<A>() : nullptr};
    const CrossEntropyParts<A> parts{args.results[0].as<A>(), args.results[1].as<A>(),
                                     args.results[2].as<A>()};
    dispatch_id(targets.type.dtype, [&]<typename Id>() {
      cross_entropy_with_grad(logits_shape(args, 5), logits.as<T>(), targets.as<Id>(), cotangents,
                              parts, args.results[3].as<T>());
    });
  });
}

// embedding(table, ids, start?)
Refusal accept_embedding(const OpCall& call, Results) {
  return first_of({refuse_float(call.operands[0]), refuse_id(call.operands[1])});
}

void run_embedding(const KernelArgs& args) {
  const auto &table = args.operands[0], &ids = args.operands[1];
  const EmbeddingShape shape{table.type.shape[0], table.type.shape[1], ids.type.elements(),
                             start_operand(args, 2)};
  dispatch_kernel_float(table.type.dtype, [&]<typename T>() {
    dispatch_id(ids.type.dtype, [&]<typename Id>() {
      embedding(shape, table.as<T>(), ids.as<Id>(), args.results[0].as<T>());
    });
  });
}

// embedding_grad(ids, dy, start?)
Refusal accept_embedding_grad(const OpCall& call, Results) {
  return first_of({refuse_id(call.operands[0]), refuse_float(call.operands[1])});
}

EmbeddingShape grad_shape(const TensorType& ids, const TensorType& table) {
  return {table.shape[0], table.shape[1], ids.elements(), 0};
}

void run_embedding_grad(const KernelArgs& args) {
  const auto &ids = args.operands[0], &dy = args.operands[1];
  EmbeddingShape shape = grad_shape(ids.type, args.results[0].type);
  shape.start = start_operand(args, 2);
  dispatch_kernel_float(dy.type.dtype, [&]<typename T>() {
    dispatch_id(ids.type.dtype, [&]<typename Id>() {
      embedding_grad(shape, ids.as<Id>(), dy.as<T>(), args.results[0].as<simd::Accumulator<T>>(),
                     args.workspace);
    });
  });
}

}  // namespace

void register_vocabulary(KernelTable& table) {
  table.add(ops::kLogitsMax, make_kernel("cpu.logits_max", accept_max, run_max));
  table.add(ops::kLogitsSum, make_kernel("cpu.logits_sum", accept_sum, run_sum));
  Kernel grad = make_kernel("cpu.logits_sum_grad", accept_sum, run_sum_grad);
  grad.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kLogitsSumGrad, grad);
  Kernel with_grad =
      make_kernel("cpu.cross_entropy_with_grad", accept_with_grad, run_with_grad);
  with_grad.in_place = [](const OpCall&, int result) { return result == 3 ? 0 : -1; };
  table.add(ops::kCrossEntropyWithGrad, with_grad);
  table.add(ops::kEmbedding, make_kernel("cpu.embedding", accept_embedding, run_embedding));
  Kernel table_grad = make_kernel("cpu.embedding_grad", accept_embedding_grad, run_embedding_grad);
  table_grad.workspace_bytes = [](const OpCall& call, Results results) {
    return embedding_grad_workspace(grad_shape(call.operands[0], results[0]));
  };
  table.add(ops::kEmbeddingGrad, table_grad);
}

}  // namespace tessera::cpu
