// What the op_*.cpp files of CUDA share.
#pragma once

#include "core/types/dtype.h"
#include "kernels/common/op_support.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/backend/context.h"
#include "kernels/cuda/number.h"

namespace tessera::cuda {

// Calls body<T>() with float or bf16, the floats that kernels are compiled for.
template <typename Body>
void dispatch_float(DType dtype, Body&& body) {
  if (dtype == DType::bf16) return body.template operator()<bf16>();
  TESSERA_CHECK(dtype == DType::f32, "no CUDA kernel for ", dtype);
  body.template operator()<float>();
}
inline Refusal refuse_float(const TensorType& type) {
  if (type.dtype == DType::f32 || type.dtype == DType::bf16) return std::nullopt;
  return cat("compiled for f32 and bf16, not ", type.dtype);
}

// Calls body<Id>() with the two integer types of ids and targets.
template <typename Body>
void dispatch_id(DType dtype, Body&& body) {
  if (dtype == DType::s64) return body.template operator()<int64_t>();
  TESSERA_CHECK(dtype == DType::s32, "no CUDA kernel for ids of ", dtype);
  body.template operator()<int32_t>();
}

inline cudaStream_t stream_of(const KernelArgs& args) { return context_of(args.stream).stream; }

// The first result begins as `operand`, over which it may lie.
inline void begin_as(const TensorView& operand, const KernelArgs& args) {
  const TensorView& result = args.results[0];
  if (operand.data == result.data || result.type.elements() == 0) return;
  check(cudaMemcpyAsync(result.data, operand.data, static_cast<size_t>(result.type.bytes()), cudaMemcpyDeviceToDevice,
                        stream_of(args)),
        "a copy on the device");
}

}  // namespace tessera::cuda
