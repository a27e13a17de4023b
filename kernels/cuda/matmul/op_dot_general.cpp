// dot_general and dot_general_add as strided batches of matrix products (product_layout.h), by cuBLASLt.
//
// Of several batch dims that do not step as one, the largest is a batch of cuBLASLt, and the others are calls of
// their own. All that depends on shapes and addresses is made by prepare(); run() only submits.
#include <limits>
#include <numeric>

#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "kernels/common/product_layout.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/matmul/matmul_library.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

constexpr int64_t kMaxCalls = 32;  // more, and the operands are copied to make one batch of all
constexpr int64_t kMaxSize = std::numeric_limits<int32_t>::max();  // of a matrix side and a batch, in cuBLASLt

// A product as it is done here.
struct Product {
  ProductLayout layout;
  ProductBatch batch{1, 0, 0, 0};    // of cuBLASLt
  std::vector<ProductBatch> calls;  // dims of separate calls
};

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

Product product_of(const OpCall& call) {
  Product product{product_layout(call)};
  split_batches(product, call);
  int64_t calls = 1;
  for (const ProductBatch& dim : product.calls) calls *= dim.size;
  if (calls > kMaxCalls) {
    copy_side(product.layout.left);
    copy_side(product.layout.right);
    split_batches(product, call);
  }
  return product;
}

// What makes an operand's dense copy [batch..., rows, columns].
Box copy_of(const ProductSide& side, const TensorType& operand) {
  const ProductGather gather = gather_of(side, operand.shape);
  return Box({operand.dtype, Shape(gather.dims)}, gather.strides).merged();
}

int64_t padded_bytes(const TensorType& type) { return (type.bytes() + 63) / 64 * 64; }

int64_t workspace_of(const OpCall& call, Results) {
  const Product product = product_of(call);
  return (product.layout.left.copied ? padded_bytes(call.operands[0]) : 0) +
         (product.layout.right.copied ? padded_bytes(call.operands[1]) : 0);
}

// ---- prepare ------------------------------------------------------------------------------------

MatmulProblem problem_of(const Product& product, const OpCall& call, DType output) {
  const ProductSide &left = product.layout.left, &right = product.layout.right;
  MatmulProblem problem;
  problem.input = call.operands[0].dtype;
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

// The two operands of the product stand at the end, behind what it is added to.
std::span<const TensorView> factors_of(const KernelArgs& args) { return args.operands.last(2); }

// Where the matrices of an operand begin, in it or in its copy.
const std::byte* matrices(const TensorView& operand, const OperandCopy& copy, std::byte* workspace) {
  return copy.workspace_offset < 0 ? operand.as<const std::byte>() : workspace + copy.workspace_offset;
}

ProductStep make_step(const KernelArgs& args, bool accumulate) {
  const std::span<const TensorView> factors = factors_of(args);
  const TensorType types[] = {factors[0].type, factors[1].type};
  const OpCall call{types, args.instruction.attributes};
  const TensorView& result = args.results[0];
  Context& context = context_of(args.stream);
  const Product product = product_of(call);
  MatmulProblem problem = problem_of(product, call, result.type.dtype);
  ProductStep step;
  if (result.type.elements() == 0 || problem.depth == 0) return step;
  if (product.layout.left.copied)
    step.left = {copy_of(product.layout.left, types[0]), 0};
  if (product.layout.right.copied)
    step.right = {copy_of(product.layout.right, types[1]), product.layout.left.copied ? padded_bytes(types[0]) : 0};
  for_each_batch(product.calls, [&](int64_t left, int64_t right, int64_t to) {
    step.products.push_back({left, right, to});
  });
  problem.tf32 = context.tf32 && problem.input == DType::f32;
  problem.accumulate = accumulate;
  const int64_t bytes = size_of(problem.input);
  problem.left_alignment = alignment_of_all(matrices(factors[0], step.left, args.workspace), step.products,
                                            &ProductOffset::left, problem, problem.left_stride, bytes);
  problem.right_alignment = alignment_of_all(matrices(factors[1], step.right, args.workspace), step.products,
                                             &ProductOffset::right, problem, problem.right_stride, bytes);
  problem.result_alignment = alignment_of_all(result.data, step.products, &ProductOffset::result, problem,
                                              problem.result_stride, size_of(problem.output));
  step.plan = &context.matmul->plan(problem);
  return step;
}

template <bool kAccumulate>
void prepare(const KernelArgs& args) {
  context_of(args.stream).matmul->steps().put(args, make_step(args, kAccumulate));
}

// ---- run ----------------------------------------------------------------------------------------

// The operand's matrices, copied first where they must be.
const std::byte* ready(const TensorView& operand, const OperandCopy& copy, const KernelArgs& args) {
  const std::byte* const at = matrices(operand, copy, args.workspace);
  if (copy.workspace_offset >= 0)
    copy_box(copy.box, operand.data, args.workspace + copy.workspace_offset, stream_of(args));
  return at;
}

void run_step(const KernelArgs& args, const ProductStep& step) {
  const std::span<const TensorView> factors = factors_of(args);
  const TensorView& result = args.results[0];
  MatmulLibrary& library = *context_of(args.stream).matmul;
  const std::byte* const left = ready(factors[0], step.left, args);
  const std::byte* const right = ready(factors[1], step.right, args);
  const int64_t bytes = size_of(factors[0].type.dtype), result_bytes = size_of(result.type.dtype);
  for (const ProductOffset& offset : step.products)
    library.run(*step.plan, left + offset.left * bytes, right + offset.right * bytes,
                result.as<std::byte>() + offset.result * result_bytes);
}

void run(const KernelArgs& args) {
  const ProductStep& step = context_of(args.stream).matmul->steps().at(args);
  const TensorView& result = args.results[0];
  if (step.plan) return run_step(args, step);
  if (result.type.bytes() > 0)
    check(cudaMemsetAsync(result.data, 0, static_cast<size_t>(result.type.bytes()), stream_of(args)),
          "a product of depth 0");
}

void run_add(const KernelArgs& args) {
  const ProductStep& step = context_of(args.stream).matmul->steps().at(args);
  const TensorView &sum = args.operands[0], &result = args.results[0];
  if (sum.data != result.data && result.type.bytes() > 0)
    check(cudaMemcpyAsync(result.data, sum.data, static_cast<size_t>(result.type.bytes()), cudaMemcpyDeviceToDevice,
                          stream_of(args)),
          "a copy on the device");
  if (step.plan) run_step(args, step);
}

// ---- accept -------------------------------------------------------------------------------------

Refusal refuse_dtypes(const OpCall& call, DType out) {
  const DType in = call.operands[0].dtype;
  if (in != DType::bf16 && in != DType::f16 && in != DType::f32 && in != DType::f64)
    return cat("products are of bf16, f16, f32 or f64, not ", in);
  const bool is_narrow = size_of(in) == 2;
  if (in != out && !(is_narrow && out == DType::f32)) return cat("no product of ", in, " into ", out);
  return refuse_mixed(call.operands[0], call.operands[1]);
}

Refusal refuse_sizes(const OpCall& call) {
  const Product product = product_of(call);
  const ProductSide &left = product.layout.left, &right = product.layout.right;
  for (const int64_t size : {left.row_count, right.column_count, left.column_count, product.batch.size}) {
    if (size > kMaxSize) return cat("a side of ", size, " is more than cuBLASLt takes");
  }
  return first_of({left.copied ? refuse_box(copy_of(left, call.operands[0])) : std::nullopt,
                   right.copied ? refuse_box(copy_of(right, call.operands[1])) : std::nullopt});
}

Refusal accept(const OpCall& call, Results results) {
  if (Refusal refusal = refuse_dtypes(call, results[0].dtype)) return refusal;
  return refuse_sizes(call);
}

OpCall without_sum(const OpCall& call) { return {call.operands.subspan(1), call.attributes}; }

}  // namespace

void register_dot_general(KernelTable& table) {
  Kernel kernel = make_kernel("cuda.cublaslt", accept, run);
  kernel.workspace_bytes = workspace_of;
  kernel.prepare = prepare<false>;
  table.add(ops::kDotGeneral, kernel);
  // The sum is rounded once, of whatever width it is.
  Kernel add = make_kernel(
      "cuda.cublaslt_add",
      [](const OpCall& call, Results results) { return accept(without_sum(call), results); }, run_add);
  add.workspace_bytes = [](const OpCall& call, Results results) {
    return workspace_of(without_sum(call), results);
  };
  add.prepare = prepare<true>;
  table.add(ops::kDotGeneralAdd, add);
}

}  // namespace tessera::cuda
