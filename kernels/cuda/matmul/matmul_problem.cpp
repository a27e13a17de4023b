#include "kernels/cuda/matmul/matmul_problem.h"

#include "core/base/strings.h"

namespace tessera::cuda {

namespace {

bool has_bias(Epilogue epilogue) { return epilogue != Epilogue::none && epilogue != Epilogue::gelu_grad; }
bool has_aux(Epilogue epilogue) { return epilogue == Epilogue::bias_gelu || epilogue == Epilogue::gelu_grad; }

std::string text_of_epilogue(const MatmulProblem& p) {
  if (p.epilogue == Epilogue::none) return "";
  constexpr std::string_view kNames[] = {"none", "bias", "bias_gelu", "gelu_grad", "bias_grad"};
  return cat(" epilogue ", kNames[static_cast<size_t>(p.epilogue)], " aligned ", p.bias_alignment, ",",
             p.aux_alignment);
}

}  // namespace

std::string text_of(const MatmulProblem& p) {
  return cat(p.tf32 ? "tf32" : name_of(p.left_type), p.right_type == p.left_type ? "" : cat("*", p.right_type),
             p.scaled ? " scaled" : "", ",", name_of(p.output), " ", p.rows, "x", p.columns, "x", p.depth,
             " ", p.left_transposed ? "t" : "n", p.right_transposed ? "t" : "n", " batch ", p.batch, " leading ",
             p.left_leading, ",", p.right_leading, ",", p.result_leading, " stride ", p.left_stride, ",",
             p.right_stride, ",", p.result_stride, " aligned ", p.left_alignment, ",", p.right_alignment, ",",
             p.result_alignment, " beta ", p.accumulate ? 1 : 0, text_of_epilogue(p));
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
  return {size_of(p.left_type) * span(p.rows, p.depth, p.left_transposed, p.left_leading, p.left_stride),
          size_of(p.right_type) * span(p.depth, p.columns, p.right_transposed, p.right_leading, p.right_stride),
          size_of(p.output) * span(p.rows, p.columns, false, p.result_leading, p.result_stride),
          has_bias(p.epilogue) ? size_of(p.output) * p.columns : 0,
          has_aux(p.epilogue) ? size_of(p.output) * p.rows * p.columns : 0};
}

}  // namespace tessera::cuda
