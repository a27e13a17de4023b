#include "kernels/cuda/device/tensor_map.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstring>

#include "core/base/error.h"
#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                            CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// By way of the runtime, so that the plugin needs no driver to be opened.
Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = {};
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
        "looking for cuTensorMapEncodeTiled");
  if (found != cudaDriverEntryPointSuccess || function == nullptr)
    throw_user_error("the driver has no cuTensorMapEncodeTiled, which kernels for compute capability 9.0 need: "
                     "install one of CUDA 12 or later");
  return reinterpret_cast<Encode>(function);
}
Encode encode() {
  static const Encode kEncode = find_encode();
  return kEncode;
}

}  // namespace

void prepare_tensor_maps() { encode(); }

TensorMap make_tensor_map(const void* data, const std::array<int64_t, 4>& sizes, const std::array<int, 4>& box) {
  constexpr int kDims = 4, kElementBytes = 2;
  cuuint64_t dims[kDims], strides[kDims - 1];  // bytes, of all dims but the innermost
  cuuint32_t boxes[kDims], steps[kDims];
  int64_t stride = kElementBytes;
  for (int d = 0; d < kDims; ++d) {
    dims[d] = static_cast<cuuint64_t>(sizes[d]);
    boxes[d] = static_cast<cuuint32_t>(box[d]);
    steps[d] = 1;
    stride *= sizes[d];
    if (d < kDims - 1) strides[d] = static_cast<cuuint64_t>(stride);
  }
  CUtensorMap map;
  const CUresult result =
      encode()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kDims, const_cast<void*>(data), dims, strides, boxes, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  TESSERA_CHECK(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled of ", sizes[0], " x ", sizes[1], " x ", sizes[2],
                " x ", sizes[3], " bf16 at ", data, " says ", static_cast<int>(result));
  TensorMap made;
  std::memcpy(&made, &map, sizeof(made));
  return made;
}

}  // namespace tessera::cuda
