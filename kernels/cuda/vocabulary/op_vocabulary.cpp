// The ops along the vocabulary: embedding and the parts of softmax cross-entropy.
#include "core/ops/cross_entropy.h"
#include "core/ops/embedding.h"
#include "core/ops/loss.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"
#include "kernels/cuda/vocabulary/cross_entropy.h"
#include "kernels/cuda/vocabulary/embedding.h"
#include "kernels/cuda/vocabulary/embedding_grad.h"

namespace tessera::cuda {
namespace {

// The start operand behind an op's `own` operands, or null.
const int64_t* start_operand(const KernelArgs& args, size_t own) {
  return args.operands.size() > own ? args.operands[own].as<int64_t>() : nullptr;
}

// ---- logits -------------------------------------------------------------------------------------

LogitsShape logits_shape(const KernelArgs& args, size_t own) {
  const RowsOf rows(args.operands[0].type.shape);
  return {rows.rows, rows.columns, args.instruction.attributes.integer(Attr::valid_size), start_operand(args, own)};
}

Refusal accept_max(const OpCall& call, Results) {
  Refusal wide;
  if (const int64_t columns = RowsOf(call.operands[0].shape).columns; columns > kLogitsMostColumns)
    wide = cat("rows of ", columns, " columns are longer than ", kLogitsMostColumns);
  return first_of({refuse_float(call.operands[0]), wide});
}
Refusal accept_sum(const OpCall& call, Results results) {
  return first_of({accept_max(call, results), refuse_id(call.operands[2])});
}

void run_max(const KernelArgs& args) {
  const auto& logits = args.operands[0];
  dispatch_float(logits.type.dtype, [&]<typename T>() {
    logits_max(logits_shape(args, 1), logits.as<T>(), args.results[0].as<float>(), stream_of(args));
  });
}

void run_sum(const KernelArgs& args) {
  const auto &logits = args.operands[0], &targets = args.operands[2];
  dispatch_float(logits.type.dtype, [&]<typename T>() {
    dispatch_id(targets.type.dtype, [&]<typename Id>() {
      logits_sum(logits_shape(args, 3), logits.as<T>(), args.operands[1].as<float>(), targets.as<Id>(),
                 args.results[0].as<float>(), args.results[1].as<float>(), stream_of(args));
    });
  });
}

void run_sum_grad(const KernelArgs& args) {
  const auto &logits = args.operands[0], &targets = args.operands[2];
  dispatch_float(logits.type.dtype, [&]<typename T>() {
    dispatch_id(targets.type.dtype, [&]<typename Id>() {
      logits_sum_grad(logits_shape(args, 5), logits.as<T>(), args.operands[1].as<float>(), targets.as<Id>(),
                      args.operands[3].as<float>(), args.operands[4].as<float>(), args.results[0].as<T>(),
                      stream_of(args));
    });
  });
}

// cross_entropy_with_grad(logits, targets, d_target, d_lse, lse_slope?) -> (max, sum_exp, target_logit, dlogits)
Refusal accept_with_grad(const OpCall& call, Results results) {
  return first_of({accept_max(call, results), refuse_id(call.operands[1])});
}

void run_with_grad(const KernelArgs& args) {
  const auto &logits = args.operands[0], &targets = args.operands[1];
  auto row = [](const TensorView& view) { return view.as<float>(); };
  dispatch_float(logits.type.dtype, [&]<typename T>() {
    CrossEntropyRows<T> rows;
    rows.shape = logits_shape(args, 5);
    rows.logits = logits.as<T>();
    if (targets.type.dtype == DType::s32)
      rows.targets = targets.as<int32_t>();
    else
      rows.wide_targets = targets.as<int64_t>();
    rows.d_target = row(args.operands[2]);
    rows.d_lse = row(args.operands[3]);
    if (args.operands.size() > 4) rows.lse_slope = row(args.operands[4]);
    rows.maximum = row(args.results[0]);
    rows.sum_exp = row(args.results[1]);
    rows.target_logit = row(args.results[2]);
    rows.dlogits = args.results[3].as<T>();
    cross_entropy_with_grad(rows, stream_of(args));
  });
}

// ---- embedding(table, ids, start?) --------------------------------------------------------------

// Rows are copied as bytes, so any table will do.
Refusal accept_embedding(const OpCall& call, Results) { return refuse_id(call.operands[1]); }

void run_embedding(const KernelArgs& args) {
  const auto &table = args.operands[0], &ids = args.operands[1];
  const int64_t element_bytes = size_of(table.type.dtype);
  dispatch_id(ids.type.dtype, [&]<typename Id>() {
    embedding(TableRows<Id>{table.type.shape[0], ids.type.elements(), ids.as<Id>(), start_operand(args, 2)},
              table.data, table.type.shape[1] * element_bytes, element_bytes, args.results[0].data, stream_of(args));
  });
}

// ---- embedding_grad(ids, dy, start?) ------------------------------------------------------------

Refusal accept_embedding_grad(const OpCall& call, Results results) {
  constexpr int64_t kMost = INT32_MAX;
  Refusal large;
  if (call.operands[0].elements() > kMost || results[0].shape[0] > kMost)
    large = cat(call.operands[0], " ids or ", results[0], " rows are more than ", kMost);
  return first_of({refuse_id(call.operands[0]), refuse_float(call.operands[1]), large});
}

void run_embedding_grad(const KernelArgs& args) {
  const auto &ids = args.operands[0], &dy = args.operands[1], &table = args.results[0];
  dispatch_float(dy.type.dtype, [&]<typename T>() {
    dispatch_id(ids.type.dtype, [&]<typename Id>() {
      embedding_grad(TableRows<Id>{table.type.shape[0], ids.type.elements(), ids.as<Id>(), start_operand(args, 2)},
                     dy.as<T>(), table.type.shape[1], table.as<float>(), args.workspace, stream_of(args));
    });
  });
}

}  // namespace

void register_vocabulary(KernelTable& table) {
  table.add(ops::kLogitsMax, make_kernel("cuda.logits_max", accept_max, run_max));
  table.add(ops::kLogitsSum, make_kernel("cuda.logits_sum", accept_sum, run_sum));
  Kernel grad = make_kernel("cuda.logits_sum_grad", accept_sum, run_sum_grad);
  grad.in_place = [](const OpCall&, int) { return 0; };
  table.add(ops::kLogitsSumGrad, grad);
  Kernel with_grad = make_kernel("cuda.cross_entropy_with_grad", accept_with_grad, run_with_grad);
  with_grad.in_place = [](const OpCall&, int result) { return result == 3 ? 0 : -1; };
  table.add(ops::kCrossEntropyWithGrad, with_grad);
  table.add(ops::kEmbedding, make_kernel("cuda.embedding", accept_embedding, run_embedding));
  Kernel table_grad = make_kernel("cuda.embedding_grad", accept_embedding_grad, run_embedding_grad);
  table_grad.workspace_bytes = [](const OpCall& call, Results results) {
    return embedding_grad_workspace(results[0].shape[0], call.operands[0].elements(), results[0].shape[1]);
  };
  table.add(ops::kEmbeddingGrad, table_grad);
}

}  // namespace tessera::cuda
