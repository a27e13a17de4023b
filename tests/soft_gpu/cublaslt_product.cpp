#include "tests/soft_gpu/cublaslt_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/soft_gpu/random.h"

namespace soft_gpu {
namespace {

float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  bits += 0x7fff + (bits >> 16 & 1);
  return static_cast<uint16_t>(bits >> 16);
}

// What a tf32 unit sees of a float: 10 bits of mantissa (cvt.rna.tf32.f32).
float to_tf32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7f800000) != 0x7f800000) bits += 0x1000;
  bits &= 0xffffe000;
  std::memcpy(&value, &bits, 4);
  return value;
}

// By the format's definition: NaN, infinity, and numbers with a hidden leading bit or without.
double from_f8(uint8_t code, int exponent_bits) {
  const int mantissa_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (code & 0x7f) >> mantissa_bits, mantissa = code & ((1 << mantissa_bits) - 1);
  const double sign = code & 0x80 ? -1 : 1;
  if (exponent_bits == 4 ? (code & 0x7f) == 0x7f : exponent == 31 && mantissa != 0) return NAN;
  if (exponent_bits == 5 && exponent == 31) return sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

double load(cudaDataType_t type, const void* data, int64_t index) {
  switch (type) {
    case CUDA_R_16BF:
      return from_bf16(static_cast<const uint16_t*>(data)[index]);
    case CUDA_R_8F_E4M3:
      return from_f8(static_cast<const uint8_t*>(data)[index], 4);
    case CUDA_R_8F_E5M2:
      return from_f8(static_cast<const uint8_t*>(data)[index], 5);
    case CUDA_R_16F:
      return static_cast<double>(static_cast<const _Float16*>(data)[index]);
    case CUDA_R_32F:
      return static_cast<const float*>(data)[index];
    default:
      return static_cast<const double*>(data)[index];
  }
}

void store(cudaDataType_t type, void* data, int64_t index, double value) {
  switch (type) {
    case CUDA_R_16BF:
      static_cast<uint16_t*>(data)[index] = to_bf16(static_cast<float>(value));
      return;
    case CUDA_R_16F:
      static_cast<_Float16*>(data)[index] = static_cast<_Float16>(value);
      return;
    case CUDA_R_32F:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      return;
    default:
      static_cast<double*>(data)[index] = value;
  }
}

// op(matrix) of one batch entry, element (row, col) at row * cols + col, or at col * rows + row.
template <typename Acc>
std::vector<Acc> gather(const MatrixLayout& layout, const void* data, int64_t first, bool transpose, int64_t rows,
                        int64_t cols, bool by_rows, bool is_tf32) {
  std::vector<Acc> values(static_cast<size_t>(rows * cols));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < cols; ++col) {
      const int64_t at = first + (transpose ? layout.at(col, row) : layout.at(row, col));
      const Acc value = static_cast<Acc>(load(layout.type, data, at));
      values[static_cast<size_t>(by_rows ? row * cols + col : col * rows + row)] =
          is_tf32 ? static_cast<Acc>(to_tf32(static_cast<float>(value))) : value;
    }
  return values;
}

// The parts of an element put together; `part(s)` is the s-th.
template <typename Acc, typename Part>
Acc combine(const MatrixProduct& p, Random& random, Acc before, const Part& part) {
  const auto rounded = [&](Acc value) {
    double stored[1];
    store(p.d.type, stored, 0, static_cast<double>(value));
    return static_cast<Acc>(load(p.d.type, stored, 0));
  };
  const auto scale_of = [](const void* at) { return at ? static_cast<Acc>(*static_cast<const float*>(at)) : Acc(1); };
  const Acc alpha = static_cast<Acc>(p.alpha) * scale_of(p.a_scale) * scale_of(p.b_scale);
  if (p.scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE) {
    const int first = static_cast<int>(random.below(static_cast<uint64_t>(p.splits)));
    Acc sum = before;
    for (int s = 0; s < p.splits; ++s) sum = rounded(sum + alpha * part((first + s) % p.splits));
    return sum;
  }
  Acc sum = 0;
  for (int s = 0; s < p.splits; ++s)
    sum += p.scheme == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE ? rounded(part(s)) : part(s);
  return alpha * sum + before;
}

// GELU in its tanh form, and its slope.
double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) {
  const double t = std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

// What is stored of an element, of which `value` was computed.
double with_epilogue(const MatrixProduct& p, int64_t row, int64_t col, double value) {
  const int64_t beside = col * p.aux_ld + row;
  switch (p.epilogue) {
    case CUBLASLT_EPILOGUE_BIAS:
      return value + load(p.d.type, p.bias, row);
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
      value += load(p.d.type, p.bias, row);
      store(p.d.type, p.aux, beside, value);
      return gelu(value);
    case CUBLASLT_EPILOGUE_DGELU:
      return value * gelu_slope(load(p.d.type, p.aux, beside));
    default:
      return value;
  }
}

// BGRADA: op(A) summed along its depth.
void sum_rows_of_a(const MatrixProduct& p) {
  for (int64_t row = 0; row < p.m; ++row) {
    float sum = 0;
    for (int64_t i = 0; i < p.k; ++i)
      sum += static_cast<float>(load(p.a.type, p.a_data, p.transpose_a ? p.a.at(i, row) : p.a.at(row, i)));
    store(p.d.type, p.bias, row, sum);
  }
}

template <typename Acc>
void run_as(const MatrixProduct& p) {
  Random random(seed() + static_cast<uint64_t>(p.m * 31 + p.n));
  const bool is_tf32 = p.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const int64_t depth = (p.k + p.splits - 1) / p.splits;
  std::vector<Acc> parts(static_cast<size_t>(p.splits));
  for (int64_t entry = 0; entry < p.d.batch; ++entry) {
    const std::vector<Acc> a =
        gather<Acc>(p.a, p.a_data, entry * p.a.stride, p.transpose_a, p.m, p.k, true, is_tf32);
    const std::vector<Acc> b =
        gather<Acc>(p.b, p.b_data, entry * p.b.stride, p.transpose_b, p.k, p.n, false, is_tf32);
    for (int64_t col = 0; col < p.n; ++col)
      for (int64_t row = 0; row < p.m; ++row) {
        const Acc *left = a.data() + row * p.k, *right = b.data() + col * p.k;
        for (int s = 0; s < p.splits; ++s) {
          Acc sum = 0;
          for (int64_t i = s * depth; i < std::min(p.k, (s + 1) * depth); ++i) sum += left[i] * right[i];
          parts[static_cast<size_t>(s)] = sum;
        }
        // Whoever else uses the workspace at the same time shall see it.
        if (workspace_bytes(p) > 0) {
          Acc* const kept = static_cast<Acc*>(p.workspace) + ((entry * p.n + col) * p.m + row) * p.splits;
          std::memcpy(kept, parts.data(), parts.size() * sizeof(Acc));
        }
        const Acc before = p.beta == 0 ? Acc(0)
                                       : static_cast<Acc>(p.beta) * static_cast<Acc>(load(
                                             p.c.type, p.c_data, entry * p.c.stride + p.c.at(row, col)));
        const Acc value = combine(p, random, before, [&](int s) { return parts[static_cast<size_t>(s)]; });
        store(p.d.type, p.d_data, entry * p.d.stride + p.d.at(row, col),
              with_epilogue(p, row, col, static_cast<double>(value)));
      }
  }
}

}  // namespace

int64_t size_of(cudaDataType_t type) {
  if (type == CUDA_R_64F) return 8;
  if (type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2) return 1;
  return type == CUDA_R_32F ? 4 : 2;
}

int64_t workspace_bytes(const MatrixProduct& p) {
  if (p.splits == 1 || p.scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE) return 0;
  return p.splits * p.m * p.n * p.d.batch * (p.compute == CUBLAS_COMPUTE_64F ? 8 : 4);
}

void run(const MatrixProduct& product) {
  if (product.epilogue == CUBLASLT_EPILOGUE_BGRADA) sum_rows_of_a(product);
  if (product.compute == CUBLAS_COMPUTE_64F) return run_as<double>(product);
  run_as<float>(product);
}

}  // namespace soft_gpu
