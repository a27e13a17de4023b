// dot_general and dot_general_add as batched matrix products: operands are read where they lie if
// their dims form a matrix with one unit stride, else they are first copied into one. The sum of
// dot_general_add is the product's own beta = 1. f8 operands are first written out as bf16, which has
// all their values: 3 bytes of traffic per element, of which each takes part in as many
// multiplications as the other operand has rows or columns.
#include <cstring>

#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "kernels/common/product_layout.h"
#include "kernels/cpu/f8.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/strided_copy.h"

namespace tessera::cpu {
namespace {

int64_t padded_bytes(int64_t elements, DType dtype) {
  return (elements * size_of(dtype) + 63) / 64 * 64;
}

int64_t workspace_of(const OpCall& call, Results results) {
  if (is_f8(call.operands[0].dtype)) {
    const TensorType wide[] = {{DType::bf16, call.operands[0].shape}, {DType::bf16, call.operands[1].shape}};
    return padded_bytes(wide[0].elements(), DType::bf16) + padded_bytes(wide[1].elements(), DType::bf16) +
           workspace_of({wide, call.attributes}, results);
  }
  const ProductLayout layout = product_layout(call);
  int64_t bytes = 0;
  for (int i = 0; i < 2; ++i) {
    const TensorType& type = call.operands[static_cast<size_t>(i)];
    if ((i == 0 ? layout.left : layout.right).copied)
      bytes += padded_bytes(type.elements(), type.dtype);
  }
  return bytes;
}

// The operand where it lies, or its dense copy [batch..., rows, columns] in `workspace`.
const std::byte* prepare(const ProductSide& side, const TensorView& view, std::byte*& workspace) {
  if (!side.copied) return view.as<const std::byte>();
  const ProductGather gather = gather_of(side, view.type.shape);
  std::byte* copy = workspace;
  strided_copy(size_of(view.type.dtype), gather.dims, gather.strides, view.data, copy);
  workspace += padded_bytes(view.type.elements(), view.type.dtype);
  return copy;
}

// The operand's values in `workspace`.
TensorView widened(const TensorView& view, std::byte*& workspace) {
  const int64_t n = view.type.elements();
  const uint8_t* const codes = view.as<const uint8_t>();
  const TensorView wide{{DType::bf16, view.type.shape}, workspace};
  auto* const to = reinterpret_cast<uint16_t*>(workspace);
  dispatch_f8(view.type.dtype, [&]<int kExponent>() {
    parallel_ranges(n, 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = static_cast<uint16_t>(decode_f8<kExponent>(codes[i]) >> 16);
    });
  });
  workspace += padded_bytes(n, DType::bf16);
  return wide;
}

// The two operands of the product, and what stands in the result before it.
struct Product {
  const TensorView &lhs, &rhs;
  const TensorView& result;
  double beta;
};

template <typename In, typename Out>
void multiply(const ProductLayout& layout, std::span<const ProductBatch> batches,
              const Product& product, const std::byte* left, const std::byte* right) {
  GemmShape shape;
  shape.transpose_a = layout.left.transposed;
  shape.transpose_b = layout.right.transposed;
  shape.m = layout.left.row_count;
  shape.n = layout.right.column_count;
  shape.k = layout.left.column_count;
  shape.lda = layout.left.leading;
  shape.ldb = layout.right.leading;
  shape.ldc = shape.n;
  const ProductBatch inner = batches.empty() ? ProductBatch{1, 0, 0, 0} : batches.back();
  shape.batch = inner.size;
  shape.stride_a = inner.left;
  shape.stride_b = inner.right;
  shape.stride_c = inner.result;
  const auto outer = batches.first(batches.empty() ? 0 : batches.size() - 1);
  for_each_batch(outer, [&](int64_t a, int64_t b, int64_t c) {
    gemm<In, Out>(shape, 1, reinterpret_cast<const In*>(left) + a,
                  reinterpret_cast<const In*>(right) + b, product.beta, product.result.as<Out>() + c);
  });
}

void run_product(const KernelArgs& args, const Product& product, std::byte* workspace) {
  const TensorType types[] = {product.lhs.type, product.rhs.type};
  const OpCall call{types, args.instruction.attributes};
  const ProductLayout layout = product_layout(call);
  const std::vector<ProductBatch> batches = batches_of(layout, call);
  const std::byte* left = prepare(layout.left, product.lhs, workspace);
  const std::byte* right = prepare(layout.right, product.rhs, workspace);
  const DType in = types[0].dtype, out = product.result.type.dtype;
  if (in == DType::f64) return multiply<double, double>(layout, batches, product, left, right);
  if (in == DType::f32) return multiply<float, float>(layout, batches, product, left, right);
  if (out == DType::f32) return multiply<bfloat16, float>(layout, batches, product, left, right);
  multiply<bfloat16, bfloat16>(layout, batches, product, left, right);
}

void run(const KernelArgs& args) {
  const TensorView &lhs = args.operands[0], &rhs = args.operands[1], &result = args.results[0];
  if (!is_f8(lhs.type.dtype)) return run_product(args, {lhs, rhs, result, 0}, args.workspace);
  std::byte* workspace = args.workspace;
  const TensorView left = widened(lhs, workspace), right = widened(rhs, workspace);
  run_product(args, {left, right, result, 0}, workspace);
}

void run_add(const KernelArgs& args) {
  const TensorView &sum = args.operands[0], &result = args.results[0];
  if (sum.data != result.data)
    std::memcpy(result.data, sum.data, static_cast<size_t>(result.type.bytes()));
  run_product(args, {args.operands[1], args.operands[2], result, 1}, args.workspace);
}

Refusal accept(const OpCall& call, Results results) {
  const DType in = call.operands[0].dtype, out = results[0].dtype;
  if (is_f8(in)) {
    if (out == DType::f32 || out == DType::bf16) return std::nullopt;
    return cat("no product of ", in, " into ", out);
  }
  Refusal widths;
  if (in != out && !(in == DType::bf16 && out == DType::f32)) {
    widths = cat("no product of ", in, " into ", out);
  }
  return first_of(
      {refuse_float(call.operands[0]), refuse_mixed(call.operands[0], call.operands[1]), widths});
}

OpCall without_sum(const OpCall& call) { return {call.operands.subspan(1), call.attributes}; }

// A narrow sum would be rounded once per tile of the contracted dims.
Refusal accept_add(const OpCall& call, Results results) {
  Refusal narrow;
  if (size_of(results[0].dtype) < 4) narrow = cat("no sum in ", results[0].dtype);
  Refusal codes;
  if (is_f8(call.operands[1].dtype)) codes = "products of f8 are added up unscaled";
  return first_of({narrow, codes, accept(without_sum(call), results)});
}

}  // namespace

void register_dot_general(KernelTable& table) {
  Kernel kernel = make_kernel("cpu.gemm", accept, run);
  kernel.workspace_bytes = workspace_of;
  table.add(ops::kDotGeneral, kernel);
  Kernel add = make_kernel("cpu.gemm_add", accept_add, run_add);
  add.workspace_bytes = [](const OpCall& call, Results results) {
    return workspace_of(without_sum(call), results);
  };
  table.add(ops::kDotGeneralAdd, add);
}

}  // namespace tessera::cpu
