#include "kernels/cuda/matmul/matmul_problem.h"

#include "core/base/strings.h"

namespace tessera::cuda {

std::string text_of(const MatmulProblem& p) {
  return cat(p.tf32 ? "tf32" : name_of(p.input), ",", name_of(p.output), " ", p.rows, "x", p.columns, "x", p.depth,
             " ", p.left_transposed ? "t" : "n", p.right_transposed ? "t" : "n", " batch ", p.batch, " leading ",
             p.left_leading, ",", p.right_leading, ",", p.result_leading, " stride ", p.left_stride, ",",
             p.right_stride, ",", p.result_stride, " aligned ", p.left_alignment, ",", p.right_alignment, ",",
             p.result_alignment, " beta ", p.accumulate ? 1 : 0);
}

int alignment_of(uint64_t address_or_bytes) {
  const uint64_t lowest = address_or_bytes & (~address_or_bytes + 1);
  return lowest == 0 || lowest > 64 ? 64 : static_cast<int>(lowest);
}

MatmulBytes bytes_of(const MatmulProblem& p) {
  const auto span = [&](int64_t rows, int64_t columns, bool transposed, int64_t leading, int64_t stride) {
    if (transposed) std::swap(rows, columns);
    return (p.batch - 1) * stride + (rows - 1) * leading + columns;
  };
  return {size_of(p.input) * span(p.rows, p.depth, p.left_transposed, p.left_leading, p.left_stride),
          size_of(p.input) * span(p.depth, p.columns, p.right_transposed, p.right_leading, p.right_stride),
          size_of(p.output) * span(p.rows, p.columns, false, p.result_leading, p.result_stride)};
}

}  // namespace tessera::cuda
