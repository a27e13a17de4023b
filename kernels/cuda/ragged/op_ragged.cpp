// Products of rows in groups: on tensor cores where rows are whole packs of bf16, else plain.
#include "kernels/cuda/ragged/ragged.h"

#include <limits>

#include "core/ops/ragged.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

Refusal accept_plain(const OpCall& call, Results results) {
  const DType in = call.operands[0].dtype, out = results[0].dtype;
  Refusal widths, many;
  if (in != out && out != DType::f32) widths = cat("no product of ", in, " into ", out);
  if (call.operands[2].elements() > std::numeric_limits<int>::max() / 4)
    many = cat(call.operands[2], " are too many groups");
  return first_of({refuse_float(call.operands[0]), widths, many});
}

Refusal accept_tensor(const OpCall& call, Results results) {
  Refusal plain;
  if (call.operands[0].dtype != DType::bf16) plain = cat("tensor cores multiply bf16, not ", call.operands[0].dtype);
  const Shape &lhs = call.operands[0].shape, &rhs = call.operands[1].shape;
  for (const int64_t size : {lhs[1], rhs[1], rhs[rhs.rank() - 1]})
    if (size % 8 != 0) plain = cat("rows of ", size, " elements are no whole packs of 16 bytes");
  return first_of({accept_plain(call, results), plain});
}

RaggedRun run_of(const KernelArgs& args) {
  const TensorType types[] = {args.operands[0].type, args.operands[1].type, args.operands[2].type};
  const ops::RaggedSizes s = ops::ragged_sizes(*args.instruction.op, {types, args.instruction.attributes});
  RaggedRun run;
  run.shape = {s.is_contraction ? RaggedKind::contraction
               : s.rhs_by_columns ? RaggedKind::by_columns
                                  : RaggedKind::by_rows,
               s.m, s.k, s.n, static_cast<int>(s.groups)};
  run.sizes = args.operands[2].as<int32_t>();
  run.size_count = args.operands[2].type.elements();
  if (args.operands.size() > 3) run.start = args.operands[3].as<int64_t>();
  run.workspace = args.workspace;
  run.multiprocessors = context_of(args.stream).multiprocessors;
  run.is_wide = args.results[0].type.dtype == DType::f32;
  return run;
}

void run_tensor(const KernelArgs& args) {
  ragged_tensor_product(run_of(args), args.operands[0].as<bf16>(), args.operands[1].as<bf16>(), args.results[0].data,
                        stream_of(args));
}

void run_plain(const KernelArgs& args) {
  dispatch_float(args.operands[0].type.dtype, [&]<typename T>() {
    ragged_plain_product<T>(run_of(args), args.operands[0].as<T>(), args.operands[1].as<T>(), args.results[0].data,
                            stream_of(args));
  });
}

}  // namespace

void register_ragged(KernelTable& table) {
  for (const OpDef* op : {&ops::kRaggedDot, &ops::kRaggedContraction}) {
    Kernel tensor = make_kernel(cat("cuda.", op->name, "_tensor"), accept_tensor, run_tensor);
    tensor.workspace_bytes = [](const OpCall& call, Results results) {
      const Shape& with_groups = results[0].rank() == 3 ? results[0].shape : call.operands[1].shape;
      return ragged_workspace(with_groups[0]);
    };
    Kernel plain = make_kernel(cat("cuda.", op->name, "_plain"), accept_plain, run_plain);
    plain.workspace_bytes = tensor.workspace_bytes;
    table.add(*op, tensor);
    table.add(*op, plain);
  }
}

}  // namespace tessera::cuda
