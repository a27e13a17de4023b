// Bound by memory: the result is read and written once, and the matrix beside it read or written; 4 or 6 bytes an
// element in bf16, so 4096 x 3072 take 50 or 75 MB, 10 or 16 us at 4.8 TB/s. By 16 bytes where all lies so.
#include "kernels/cuda/matmul/epilogue_kernels.h"

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/matmul/matmul_problem.h"

namespace tessera::cuda {
namespace {

// A block is of as many packs of columns by rows.
constexpr int kLanes = 32, kRows = 8;
constexpr int64_t kMostBlocks = 65535;  // along the rows

// 1 / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3): GELU is x times that.
__device__ __forceinline__ float gelu_gate(float x) {
  const float u = 0.7978845608028654f * fmaf(0.044715f * x * x, x, x);
  return 1.0f / (1.0f + exp2_approx(-2.885390081777927f * u));
}

__device__ __forceinline__ float gelu_slope(float far) {
  // Beyond, it is 0 or 1, where the formula would multiply 0 with infinity. NaN stays.
  const float x = far < -20.0f ? -20.0f : far > 20.0f ? 20.0f : far;
  const float gate = gelu_gate(x);
  return fmaf(x * gate * (1.0f - gate), 1.5957691216057308f * fmaf(0.134145f * x, x, 1.0f), gate);
}

// `bias` and `aux` are null where the epilogue has no use for them.
template <Epilogue kEpilogue, int N, typename T>
__global__ void __launch_bounds__(kLanes * kRows)
    epilogue_kernel(int64_t rows, int64_t columns, const T* bias, T* aux, T* result) {
  const int64_t column = (int64_t{blockIdx.x} * kLanes + threadIdx.x) * N;
  if (column >= columns) return;
  Floats<N> own = {};
  if (bias != nullptr) own = load_floats<N>(bias + column);
  for (int64_t row = int64_t{blockIdx.y} * kRows + threadIdx.y; row < rows; row += int64_t{gridDim.y} * kRows) {
    const int64_t at = row * columns + column;
    Floats<N> y = load_floats<N>(result + at), x = {};
    if constexpr (kEpilogue == Epilogue::gelu_grad) x = load_floats<N>(aux + at);
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = kEpilogue == Epilogue::gelu_grad ? y[i] * gelu_slope(x[i]) : y[i] + own[i];
    if constexpr (kEpilogue == Epilogue::bias_gelu) {
      store_global(aux + at, to_pack<T>(y));
#pragma unroll
      for (int i = 0; i < N; ++i) y[i] *= gelu_gate(y[i]);
    }
    store_global(result + at, to_pack<T>(y));
  }
}

template <Epilogue kEpilogue, typename T>
void run(int64_t rows, int64_t columns, const T* bias, T* aux, T* result, cudaStream_t stream) {
  const auto run_packs = [&]<int N>() {
    const dim3 blocks(blocks_for(columns, kLanes * N), blocks_for(rows, kRows, kMostBlocks));
    launch(epilogue_kernel<kEpilogue, N, T>, blocks, dim3(kLanes, kRows), 0, stream, rows, columns, bias, aux, result);
  };
  if (columns % kPackSize<T> == 0 && are_aligned(16, bias, aux, result))
    run_packs.template operator()<kPackSize<T>>();
  else
    run_packs.template operator()<1>();
}

}  // namespace

template <typename T>
void add_bias(int64_t rows, int64_t columns, const T* bias, T* result, cudaStream_t stream) {
  run<Epilogue::bias, T>(rows, columns, bias, nullptr, result, stream);
}
template void add_bias(int64_t, int64_t, const float*, float*, cudaStream_t);
template void add_bias(int64_t, int64_t, const bf16*, bf16*, cudaStream_t);

void add_bias_and_gelu(int64_t rows, int64_t columns, const bf16* bias, bf16* sum, bf16* result, cudaStream_t stream) {
  run<Epilogue::bias_gelu>(rows, columns, bias, sum, result, stream);
}

void multiply_gelu_slope(int64_t rows, int64_t columns, const bf16* x, bf16* result, cudaStream_t stream) {
  run<Epilogue::gelu_grad, bf16>(rows, columns, nullptr, const_cast<bf16*>(x), result, stream);
}

}  // namespace tessera::cuda
