// What the op_*.cpp files share: from an op's call to the types and pointers of its kernel.
#pragma once

#include "core/types/dispatch.h"
#include "kernels/common/op_support.h"
#include "kernels/common/simd.h"

namespace tessera::cpu {

// Calls body<T>() with float, double or bfloat16, the floats that kernels are compiled for.
template <typename Body>
decltype(auto) dispatch_kernel_float(DType dtype, Body&& body) {
  if (dtype == DType::f64) return body.template operator()<double>();
  if (dtype == DType::bf16) return body.template operator()<bfloat16>();
  TESSERA_CHECK(dtype == DType::f32, "no kernel for ", dtype);
  return body.template operator()<float>();
}
inline bool is_kernel_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16;
}

// Calls body<Id>() with the two integer types of ids and targets.
template <typename Body>
decltype(auto) dispatch_id(DType dtype, Body&& body) {
  if (dtype == DType::s64) return body.template operator()<int64_t>();
  TESSERA_CHECK(dtype == DType::s32, "no kernel for ids of ", dtype);
  return body.template operator()<int32_t>();
}

// Calls body<T>() with the numbers that are combined element by element: floats, s32 and s64.
template <typename Body>
void dispatch_number(DType dtype, Body&& body) {
  if (is_kernel_float(dtype))
    dispatch_kernel_float(dtype, body);
  else
    dispatch_id(dtype, body);
}
inline Refusal refuse_number(const TensorType& type) {
  if (is_kernel_float(type.dtype) || type.dtype == DType::s32 || type.dtype == DType::s64)
    return std::nullopt;
  return cat("compiled for f32, f64, bf16, s32 and s64, not ", type.dtype);
}

inline Refusal refuse_float(const TensorType& type) {
  if (is_kernel_float(type.dtype)) return std::nullopt;
  return cat("compiled for f32, f64 and bf16, not ", type.dtype);
}

// Bytes of what a float of `dtype` is summed in.
inline int64_t accumulator_bytes(DType dtype) { return dtype == DType::f64 ? 8 : 4; }

// The start operand behind an op's `own` operands; 0 where it is absent.
inline int64_t start_operand(const KernelArgs& args, size_t own) {
  return args.operands.size() > own ? *args.operands[own].as<int64_t>() : 0;
}

}  // namespace tessera::cpu
