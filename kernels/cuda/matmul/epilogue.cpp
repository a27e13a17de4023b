#include "kernels/cuda/matmul/epilogue.h"

#include "kernels/cuda/matmul/epilogue_kernels.h"
#include "kernels/cuda/reduction/reduce.h"

namespace tessera::cuda {
namespace {

// Of the right side's [depth, columns].
ReduceShape sums_of(const MatmulProblem& problem) { return {1, problem.depth, problem.columns}; }

template <typename In, typename Out>
void sum_columns(const MatmulProblem& problem, const MatmulMemory& memory, void* workspace, cudaStream_t stream) {
  reduce<In, Out>(ReduceKind::sum, sums_of(problem), static_cast<const In*>(memory.right),
                  static_cast<Out*>(memory.bias), nullptr, workspace, stream);
}

}  // namespace

int64_t epilogue_workspace(const MatmulProblem& problem) {
  return problem.epilogue == Epilogue::bias_grad ? reduce_workspace(sums_of(problem), sizeof(float)) : 0;
}

void run_epilogue(const MatmulProblem& problem, const MatmulMemory& memory, void* workspace, cudaStream_t stream) {
  const int64_t rows = problem.rows, columns = problem.columns;
  bf16* const result = static_cast<bf16*>(memory.result);
  bf16* const aux = static_cast<bf16*>(memory.aux);
  switch (problem.epilogue) {
    case Epilogue::none:
      return;
    case Epilogue::bias:
      if (problem.output == DType::f32)
        return add_bias(rows, columns, static_cast<const float*>(memory.bias), static_cast<float*>(memory.result),
                        stream);
      return add_bias(rows, columns, static_cast<const bf16*>(memory.bias), result, stream);
    case Epilogue::bias_gelu:
      return add_bias_and_gelu(rows, columns, static_cast<const bf16*>(memory.bias), aux, result, stream);
    case Epilogue::gelu_grad:
      return multiply_gelu_slope(rows, columns, aux, result, stream);
    case Epilogue::bias_grad:
      if (problem.right_type == DType::f32) return sum_columns<float, float>(problem, memory, workspace, stream);
      if (problem.output == DType::f32) return sum_columns<bf16, float>(problem, memory, workspace, stream);
      return sum_columns<bf16, bf16>(problem, memory, workspace, stream);
  }
}

}  // namespace tessera::cuda
