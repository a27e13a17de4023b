// A dot_general as cuBLASLt computes it: what op_dot_general.cpp and op_product_epilogue.cpp share.
//
// It is strided batches of matrix products (product_layout.h). Of several batch dims that do not step as one, the
// largest is a batch of cuBLASLt, and the others are calls of their own. All that depends on shapes and addresses is
// made when a step is prepared; running one only submits.
//
// Sides of f8 operands have to lie with the depth innermost (matmul_plan.h), so of a linear layer's three products the
// weight (forward), x and dy (the weight's gradient) are transposed first: copies of bytes.
#pragma once

#include <vector>

#include "kernels/common/product_layout.h"
#include "kernels/cuda/matmul/matmul_library.h"
#include "kernels/cuda/op_support.h"

namespace tessera::cuda {

struct Product {
  ProductLayout layout;
  ProductBatch batch{1, 0, 0, 0};   // of cuBLASLt
  std::vector<ProductBatch> calls;  // dims of separate calls
};

// `call` has the operands of dot_general first; so below.
Product product_of(const OpCall& call);

// For the operands' copies, where they must be made.
int64_t product_workspace(const OpCall& call);

Refusal refuse_product(const OpCall& call, DType output);

// Where a step finds what it is done with. `bias` and `aux` are of the epilogue; the scales, f32 in device memory, are
// both given or none.
struct ProductViews {
  TensorView left, right, result;
  void *bias = nullptr, *aux = nullptr;
  const void *left_scale = nullptr, *right_scale = nullptr;
};

struct ProductOptions {
  bool accumulate = false;
  Epilogue epilogue = Epilogue::none;
};

ProductStep make_product_step(const KernelArgs& args, const ProductViews& views, const ProductOptions& options);

// The step must have a plan.
void run_product_step(const KernelArgs& args, const ProductViews& views, const ProductStep& step);

}  // namespace tessera::cuda
