#include "kernels/cuda/matmul/product.h"

#include <limits>

namespace tessera::cuda {
namespace {

constexpr int64_t kMaxCalls = 32;  // more, and the operands are copied to make one batch of all
constexpr int64_t kMaxSize = std::numeric_limits<int32_t>::max();  // of a matrix side and a batch, in cuBLASLt

void split_batches(Product& product, const OpCall& call) {
  product.calls = batches_of(product.layout, call);
  product.batch = {1, 0, 0, 0};
  if (product.calls.empty()) return;
  const auto largest = std::max_element(product.calls.begin(), product.calls.end(),
                                        [](const auto& a, const auto& b) { return a.size < b.size; });
  product.batch = *largest;
  product.calls.erase(largest);
}

void copy_side(ProductSide& side) {
  side.copied = true;
  side.transposed = false;
  side.leading = std::max<int64_t>(side.column_count, 1);
}

constexpr int64_t kF8Multiple = 16;  // of the sides of f8 matrices, in elements

// Both sides of an f8 product with the depth innermost, in rows that begin at multiples of 16 bytes.
void lay_depth_inside(ProductLayout& layout) {
  ProductSide &left = layout.left, &right = layout.right;
  if (left.transposed || left.leading % kF8Multiple != 0) copy_side(left);
  if (right.copied || !right.transposed || right.leading % kF8Multiple != 0) {
    right.copied = right.transposed = true;
    right.leading = right.row_count;
  }
}

// What makes an operand's dense copy [batch..., rows, columns], or, transposed, [batch..., columns, rows].
Box copy_of(ProductSide side, const TensorType& operand) {
  if (side.transposed) std::swap(side.rows, side.columns);
  const ProductGather gather = gather_of(side, operand.shape);
  return Box({operand.dtype, Shape(gather.dims)}, gather.strides).merged();
}

int64_t padded_bytes(const TensorType& type) { return (type.bytes() + 63) / 64 * 64; }

MatmulProblem problem_of(const Product& product, const OpCall& call, DType output) {
  const ProductSide &left = product.layout.left, &right = product.layout.right;
  MatmulProblem problem;
  problem.left_type = call.operands[0].dtype;
  problem.right_type = call.operands[1].dtype;
  problem.output = output;
  problem.rows = left.row_count;
  problem.columns = right.column_count;
  problem.depth = left.column_count;
  problem.batch = product.batch.size;
  problem.left_transposed = left.transposed;
  problem.right_transposed = right.transposed;
  problem.left_leading = left.leading;
  problem.right_leading = right.leading;
  problem.result_leading = problem.columns;
  problem.left_stride = product.batch.left;
  problem.right_stride = product.batch.right;
  problem.result_stride = product.batch.result;
  return problem;
}

// Of all matrices of one operand: where the first lies and how far the others are from it.
int alignment_of_all(const void* first, const std::vector<ProductOffset>& calls, int64_t ProductOffset::*offset,
                     const MatmulProblem& problem, int64_t stride, int64_t element_bytes) {
  uint64_t bits = reinterpret_cast<uintptr_t>(first);
  for (const ProductOffset& call : calls) bits |= static_cast<uint64_t>(call.*offset * element_bytes);
  if (problem.batch > 1) bits |= static_cast<uint64_t>(stride * element_bytes);
  return alignment_of(bits);
}

// Where the matrices of an operand begin, in it or in its copy.
const std::byte* matrices(const TensorView& operand, const OperandCopy& copy, std::byte* workspace) {
  return copy.workspace_offset < 0 ? operand.as<const std::byte>() : workspace + copy.workspace_offset;
}

// The operand's matrices, copied first where they must be.
const std::byte* ready(const TensorView& operand, const OperandCopy& copy, const KernelArgs& args) {
  const std::byte* const at = matrices(operand, copy, args.workspace);
  if (copy.workspace_offset >= 0)
    copy_box(copy.box, operand.data, args.workspace + copy.workspace_offset, stream_of(args));
  return at;
}

Refusal refuse_dtypes(const OpCall& call, DType out) {
  const DType in = call.operands[0].dtype, right = call.operands[1].dtype;
  if (is_f8(in) && is_f8(right)) {
    if (in == DType::f8e5m2 && right == DType::f8e5m2) return "cuBLASLt has no product of two e5m2";
    if (out != DType::f32 && out != DType::bf16) return cat("no product of ", in, " into ", out);
    return std::nullopt;
  }
  if (in != DType::bf16 && in != DType::f16 && in != DType::f32 && in != DType::f64)
    return cat("products are of bf16, f16, f32 or f64, not ", in);
  const bool is_narrow = size_of(in) == 2;
  if (in != out && !(is_narrow && out == DType::f32)) return cat("no product of ", in, " into ", out);
  return refuse_mixed(call.operands[0], call.operands[1]);
}

Refusal refuse_f8_sizes(const OpCall& call, const Product& product) {
  if (!is_f8(call.operands[0].dtype)) return std::nullopt;
  const int64_t rows = product.layout.left.row_count, columns = product.layout.right.column_count,
                depth = product.layout.left.column_count;
  for (const int64_t size : {rows, columns, depth})
    if (size == 0 || size % kF8Multiple != 0)
      return cat("an f8 product of ", rows, " x ", columns, " x ", depth, ": cuBLASLt wants multiples of 16");
  return std::nullopt;
}

}  // namespace

Product product_of(const OpCall& call) {
  Product product{product_layout(call)};
  if (is_f8(call.operands[0].dtype)) lay_depth_inside(product.layout);
  split_batches(product, call);
  int64_t calls = 1;
  for (const ProductBatch& dim : product.calls) calls *= dim.size;
  if (calls > kMaxCalls) {
    copy_side(product.layout.left);
    copy_side(product.layout.right);
    if (is_f8(call.operands[0].dtype)) lay_depth_inside(product.layout);
    split_batches(product, call);
  }
  return product;
}

int64_t product_workspace(const OpCall& call) {
  const Product product = product_of(call);
  return (product.layout.left.copied ? padded_bytes(call.operands[0]) : 0) +
         (product.layout.right.copied ? padded_bytes(call.operands[1]) : 0);
}

Refusal refuse_product(const OpCall& call, DType output) {
  if (Refusal refusal = refuse_dtypes(call, output)) return refusal;
  const Product product = product_of(call);
  const ProductSide &left = product.layout.left, &right = product.layout.right;
  for (const int64_t size : {left.row_count, right.column_count, left.column_count, product.batch.size}) {
    if (size > kMaxSize) return cat("a side of ", size, " is more than cuBLASLt takes");
  }
  return first_of({refuse_f8_sizes(call, product), left.copied ? refuse_box(copy_of(left, call.operands[0])) : std::nullopt,
                   right.copied ? refuse_box(copy_of(right, call.operands[1])) : std::nullopt});
}

ProductStep make_product_step(const KernelArgs& args, const ProductViews& views, const ProductOptions& options) {
  const TensorType types[] = {views.left.type, views.right.type};
  const OpCall call{types, args.instruction.attributes};
  Context& context = context_of(args.stream);
  const Product product = product_of(call);
  MatmulProblem problem = problem_of(product, call, views.result.type.dtype);
  ProductStep step;
  if (views.result.type.elements() == 0 || problem.depth == 0) return step;
  if (product.layout.left.copied)
    step.left = {copy_of(product.layout.left, types[0]), 0};
  if (product.layout.right.copied)
    step.right = {copy_of(product.layout.right, types[1]), product.layout.left.copied ? padded_bytes(types[0]) : 0};
  for_each_batch(product.calls, [&](int64_t left, int64_t right, int64_t to) {
    step.products.push_back({left, right, to});
  });
  problem.tf32 = context.tf32 && problem.left_type == DType::f32;
  problem.scaled = views.left_scale != nullptr;
  problem.accumulate = options.accumulate;
  const int64_t bytes = size_of(problem.left_type);
  problem.left_alignment = alignment_of_all(matrices(views.left, step.left, args.workspace), step.products,
                                            &ProductOffset::left, problem, problem.left_stride, bytes);
  problem.right_alignment = alignment_of_all(matrices(views.right, step.right, args.workspace), step.products,
                                             &ProductOffset::right, problem, problem.right_stride, bytes);
  problem.result_alignment = alignment_of_all(views.result.data, step.products, &ProductOffset::result, problem,
                                              problem.result_stride, size_of(problem.output));
  problem.epilogue = options.epilogue;
  problem.bias_alignment = alignment_of(reinterpret_cast<uintptr_t>(views.bias));
  problem.aux_alignment = alignment_of(reinterpret_cast<uintptr_t>(views.aux));
  step.plan = &context.matmul->plan(problem);
  return step;
}

void run_product_step(const KernelArgs& args, const ProductViews& views, const ProductStep& step) {
  MatmulLibrary& library = *context_of(args.stream).matmul;
  const std::byte* const left = ready(views.left, step.left, args);
  const std::byte* const right = ready(views.right, step.right, args);
  const int64_t bytes = size_of(views.left.type.dtype), result_bytes = size_of(views.result.type.dtype);
  for (const ProductOffset& offset : step.products)
    library.run(*step.plan, {left + offset.left * bytes, right + offset.right * bytes,
                             views.result.as<std::byte>() + offset.result * result_bytes, views.bias, views.aux,
                             views.left_scale, views.right_scale});
}

}  // namespace tessera::cuda
