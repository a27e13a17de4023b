// dot_general and dot_general_add as batched matrix products: operands are read where they lie if
// their dims form a matrix with one unit stride, else they are first copied into one. The sum of
// dot_general_add is the product's own beta = 1.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/strided_copy.h"

namespace tessera::cpu {
namespace {

// Several dims walked as one: their size and, if they lie so, the step between neighbours.
struct Group {
  int64_t size = 1;
  std::optional<int64_t> stride = 1;
};

Group group_of(const Shape& shape, const Ints& dims) {
  const std::vector<int64_t> strides = shape.strides();
  Group group;
  int64_t next = 0;  // the stride that the dim before (outside) must have
  for (size_t i = dims.size(); i-- > 0;) {
    const int64_t size = shape[static_cast<int>(dims[i])],
                  stride = strides[static_cast<size_t>(dims[i])];
    if (size == 1) continue;
    if (group.size == 1)
      group.stride = stride;
    else if (stride != next)
      group.stride.reset();
    group.size *= size;
    next = stride * size;
  }
  return group;
}

// One operand as [batch..., rows, columns] of a product.
struct Side {
  Ints batch, rows, columns;  // dims of the operand
  Group row, column;
  bool transposed = false;  // stored [columns, rows]
  int64_t leading = 0;      // elements between stored rows
  bool copied = false;
};

Side side_of(const Shape& shape, const Ints& batch, const Ints& rows, const Ints& columns) {
  Side side{batch, rows, columns, group_of(shape, rows), group_of(shape, columns)};
  const int64_t m = side.row.size, n = side.column.size;
  const auto unit = [](const Group& group) { return group.size == 1 || group.stride == 1; };
  // A leading dimension must reach over a stored row, even where there is but one.
  const auto leads = [](const Group& outer, const Group& inner) {
    return outer.size == 1 || (outer.stride && *outer.stride >= inner.size);
  };
  if (unit(side.column) && leads(side.row, side.column)) {
    side.leading = m == 1 ? n : *side.row.stride;
  } else if (unit(side.row) && leads(side.column, side.row)) {
    side.transposed = true;
    side.leading = n == 1 ? m : *side.column.stride;
  } else {
    side.copied = true;
    side.leading = n;
  }
  side.leading = std::max<int64_t>(side.leading, 1);
  return side;
}

struct Plan {
  Side left, right;
  DType dtype = DType::f32, result = DType::f32;
  int64_t left_elements = 0;
};

Ints other_dims(int rank, const Ints& a, const Ints& b) {
  Ints dims;
  for (int64_t d = 0; d < rank; ++d) {
    if (std::count(a.begin(), a.end(), d) + std::count(b.begin(), b.end(), d) == 0)
      dims.push_back(d);
  }
  return dims;
}

Plan plan_of(const OpCall& call, const TensorType& result) {
  const Attributes& attributes = call.attributes;
  const Shape &lhs = call.operands[0].shape, &rhs = call.operands[1].shape;
  const Ints &lhs_batch = attributes.ints(Attr::lhs_batch),
             &rhs_batch = attributes.ints(Attr::rhs_batch);
  // The order in which products are summed is free: ascending on the left merges most often.
  const Ints &lhs_dims = attributes.ints(Attr::lhs_contracting),
             &rhs_dims = attributes.ints(Attr::rhs_contracting);
  std::vector<size_t> order(lhs_dims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return lhs_dims[a] < lhs_dims[b]; });
  Ints lhs_contracting, rhs_contracting;
  for (size_t i : order) {
    lhs_contracting.push_back(lhs_dims[i]);
    rhs_contracting.push_back(rhs_dims[i]);
  }
  Plan plan;
  plan.dtype = call.operands[0].dtype;
  plan.result = result.dtype;
  plan.left =
      side_of(lhs, lhs_batch, other_dims(lhs.rank(), lhs_batch, lhs_contracting), lhs_contracting);
  plan.right =
      side_of(rhs, rhs_batch, rhs_contracting, other_dims(rhs.rank(), rhs_batch, rhs_contracting));
  plan.left_elements = lhs.elements();
  return plan;
}

int64_t padded_bytes(int64_t elements, DType dtype) {
  return (elements * size_of(dtype) + 63) / 64 * 64;
}

int64_t workspace_of(const OpCall& call, Results results) {
  const Plan plan = plan_of(call, results[0]);
  int64_t bytes = 0;
  for (int i = 0; i < 2; ++i) {
    const Side& side = i == 0 ? plan.left : plan.right;
    if (side.copied)
      bytes += padded_bytes(call.operands[static_cast<size_t>(i)].elements(), plan.dtype);
  }
  return bytes;
}

// The operand where it lies, or its dense copy [batch..., rows, columns] in `workspace`.
const std::byte* prepare(const Side& side, const TensorView& view, std::byte*& workspace) {
  if (!side.copied) return view.as<const std::byte>();
  const std::vector<int64_t> own = view.type.shape.strides();
  Ints dims, strides;
  for (const Ints* group : {&side.batch, &side.rows, &side.columns}) {
    for (int64_t d : *group) {
      dims.push_back(view.type.shape[static_cast<int>(d)]);
      strides.push_back(own[static_cast<size_t>(d)]);
    }
  }
  std::byte* copy = workspace;
  strided_copy(size_of(view.type.dtype), dims, strides, view.data, copy);
  workspace += padded_bytes(view.type.elements(), view.type.dtype);
  return copy;
}

// Element offset of batch entry `index`, and the step to the next within the last batch dim.
struct BatchWalk {
  std::vector<int64_t> sizes, strides;

  BatchWalk(const Side& side, const Shape& shape) {
    const std::vector<int64_t> own = shape.strides();
    int64_t dense = side.row.size * side.column.size;
    for (size_t i = side.batch.size(); i-- > 0;) {
      const auto d = static_cast<size_t>(side.batch[i]);
      sizes.insert(sizes.begin(), shape[static_cast<int>(d)]);
      strides.insert(strides.begin(), side.copied ? dense : own[d]);
      dense *= sizes.front();
    }
  }
  int64_t inner_size() const { return sizes.empty() ? 1 : sizes.back(); }
  int64_t inner_stride() const { return strides.empty() ? 0 : strides.back(); }
  int64_t outer_size() const {
    int64_t size = 1;
    for (size_t i = 0; i + 1 < sizes.size(); ++i) size *= sizes[i];
    return size;
  }
  int64_t outer_offset(int64_t index) const {
    int64_t offset = 0;
    for (size_t i = sizes.size(); i-- > 1;) {
      offset += index % sizes[i - 1] * strides[i - 1];
      index /= sizes[i - 1];
    }
    return offset;
  }
};

// The two operands of the product, and what stands in the result before it.
struct Product {
  const TensorView &lhs, &rhs;
  const TensorView& result;
  double beta;
};

template <typename In, typename Out>
void multiply(const Plan& plan, const Product& product, const std::byte* left,
              const std::byte* right) {
  GemmShape shape;
  shape.transpose_a = plan.left.transposed;
  shape.transpose_b = plan.right.transposed;
  shape.m = plan.left.row.size;
  shape.n = plan.right.column.size;
  shape.k = plan.left.column.size;
  shape.lda = plan.left.leading;
  shape.ldb = plan.right.leading;
  shape.ldc = shape.n;
  const BatchWalk a(plan.left, product.lhs.type.shape), b(plan.right, product.rhs.type.shape);
  shape.batch = a.inner_size();
  shape.stride_a = a.inner_stride();
  shape.stride_b = b.inner_stride();
  shape.stride_c = shape.m * shape.n;
  Out* c = product.result.as<Out>();
  for (int64_t outer = 0; outer < a.outer_size(); ++outer) {
    gemm<In, Out>(shape, 1, reinterpret_cast<const In*>(left) + a.outer_offset(outer),
                  reinterpret_cast<const In*>(right) + b.outer_offset(outer), product.beta,
                  c + outer * shape.batch * shape.stride_c);
  }
}

void run_product(const KernelArgs& args, const Product& product) {
  const TensorType types[] = {product.lhs.type, product.rhs.type};
  const Plan plan = plan_of({types, args.instruction.attributes}, product.result.type);
  std::byte* workspace = args.workspace;
  const std::byte* left = prepare(plan.left, product.lhs, workspace);
  const std::byte* right = prepare(plan.right, product.rhs, workspace);
  if (plan.dtype == DType::f64) return multiply<double, double>(plan, product, left, right);
  if (plan.dtype == DType::f32) return multiply<float, float>(plan, product, left, right);
  if (plan.result == DType::f32) return multiply<bfloat16, float>(plan, product, left, right);
  multiply<bfloat16, bfloat16>(plan, product, left, right);
}

void run(const KernelArgs& args) {
  run_product(args, {args.operands[0], args.operands[1], args.results[0], 0});
}

void run_add(const KernelArgs& args) {
  const TensorView &sum = args.operands[0], &result = args.results[0];
  if (sum.data != result.data)
    std::memcpy(result.data, sum.data, static_cast<size_t>(result.type.bytes()));
  run_product(args, {args.operands[1], args.operands[2], result, 1});
}

Refusal accept(const OpCall& call, Results results) {
  const DType in = call.operands[0].dtype, out = results[0].dtype;
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
  return first_of({narrow, accept(without_sum(call), results)});
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
