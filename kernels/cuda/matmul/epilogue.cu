// Bound by memory: the result is read and written once, and the matrix beside it read or written; 4 or 6 bytes an
// element in bf16, so 4096 x 3072 take 50 or 75 MB, 10 or 16 us at 4.8 TB/s. They run only where cuBLASLt has no
// algorithm with the epilogue.
#include "kernels/cuda/matmul/epilogue.h"

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;

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

// What is done with an element; `bias` and `beside` are null where it has no use for them.
template <typename T>
struct AddBias {
  __device__ static float apply(float y, float bias, T*, int64_t) { return y + bias; }
};
template <typename T>
struct AddBiasAndGelu {
  __device__ static float apply(float y, float bias, T* beside, int64_t at) {
    beside[at] = from_float<T>(y + bias);
    return (y + bias) * gelu_gate(y + bias);
  }
};
template <typename T>
struct MultiplySlope {
  __device__ static float apply(float y, float, T* beside, int64_t at) { return y * gelu_slope(to_float(beside[at])); }
};

template <typename T, typename Work>
__global__ void __launch_bounds__(kThreads)
    epilogue_kernel(int64_t count, int64_t columns, const T* bias, T* beside, T* result) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    const float own = bias == nullptr ? 0.0f : to_float(bias[i % columns]);
    result[i] = from_float<T>(Work::apply(to_float(result[i]), own, beside, i));
  }
}

template <typename Work, typename T>
void run(int64_t rows, int64_t columns, const T* bias, T* beside, T* result, cudaStream_t stream) {
  launch(epilogue_kernel<T, Work>, dim3(blocks_for(rows * columns, kThreads, 1 << 16)), dim3(kThreads), 0, stream,
         rows * columns, columns, bias, beside, result);
}

}  // namespace

template <typename T>
void add_bias(int64_t rows, int64_t columns, const T* bias, T* result, cudaStream_t stream) {
  run<AddBias<T>>(rows, columns, bias, static_cast<T*>(nullptr), result, stream);
}
template void add_bias(int64_t, int64_t, const float*, float*, cudaStream_t);
template void add_bias(int64_t, int64_t, const bf16*, bf16*, cudaStream_t);

void add_bias_and_gelu(int64_t rows, int64_t columns, const bf16* bias, bf16* sum, bf16* result, cudaStream_t stream) {
  run<AddBiasAndGelu<bf16>>(rows, columns, bias, sum, result, stream);
}

void multiply_gelu_slope(int64_t rows, int64_t columns, const bf16* x, bf16* result, cudaStream_t stream) {
  run<MultiplySlope<bf16>>(rows, columns, static_cast<const bf16*>(nullptr), const_cast<bf16*>(x), result, stream);
}

}  // namespace tessera::cuda
