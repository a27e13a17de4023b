// One batch of matrix products as cuBLASLt needs to know it: all that the choice of an algorithm may depend on.
#pragma once

#include <cstdint>
#include <string>

#include "core/types/dtype.h"

namespace tessera::cuda {

// What is done with a result, by cuBLASLt while it is in registers or behind it (epilogue.h): see
// core/ops/product_epilogue.h. Of one batch only.
enum class Epilogue : uint8_t {
  none,
  bias,       // + bias [columns]
  bias_gelu,  // + bias, which is written to aux [rows, columns] and then put through GELU
  gelu_grad,  // * the slope of GELU at aux
  bias_grad,  // bias = sums of right over its depth; the result as with none
};

// result [batch, rows, columns] (+)= left [batch, rows, depth] x right [batch, depth, columns], all row-major:
// leading dims and strides count elements. A transposed operand is stored [depth, rows] or [columns, depth].
struct MatmulProblem {
  DType left_type = DType::f32, right_type = DType::f32, output = DType::f32;
  bool scaled = false;  // of f8 operands: the result is multiplied by two numbers in device memory
  bool tf32 = false;  // of f32 operands: their products on tf32 matrix units
  int64_t rows = 0, columns = 0, depth = 0, batch = 1;
  bool left_transposed = false, right_transposed = false;
  int64_t left_leading = 0, right_leading = 0, result_leading = 0;
  int64_t left_stride = 0, right_stride = 0, result_stride = 0;
  bool accumulate = false;  // the result is added to (beta = 1), else its old content is not read
  // Bytes that divide all addresses that will be given: powers of two.
  int left_alignment = 1, right_alignment = 1, result_alignment = 1;
  Epilogue epilogue = Epilogue::none;
  int bias_alignment = 64, aux_alignment = 64;  // aux is as dense as the result
};

// Where a product's matrices lie. `bias` and `aux` are read or written as the epilogue says.
struct MatmulMemory {
  const void *left, *right;
  void* result;
  void *bias = nullptr, *aux = nullptr;
  const void *left_scale = nullptr, *right_scale = nullptr;  // f32, of a scaled product
};

// The problem in words, the same for the same problem only; the key of its choice:
// "bf16,f32 512x768x3072 nt batch 1 leading 3072,3072,768 stride 0,0,0 aligned 64,64,64 beta 0", and, where there is
// one, the epilogue behind it: " epilogue bias_gelu aligned 64,64".
std::string text_of(const MatmulProblem& problem);

// The power of two, at most 64, that divides `address_or_bytes`; 64 for 0. Buffers are aligned to 64 bytes, and
// what is aligned better by chance must not be chosen for.
int alignment_of(uint64_t address_or_bytes);

// Bytes from the first to behind the last element that a product touches; 0 of what its epilogue has no use for.
struct MatmulBytes {
  int64_t left, right, result, bias, aux;
};
MatmulBytes bytes_of(const MatmulProblem& problem);

}  // namespace tessera::cuda
