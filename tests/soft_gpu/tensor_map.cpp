// The driver's tensor maps, with its demands as its reference (cuTensorMapEncodeTiled) lists them.
#include <cuda.h>

#include <cstring>

using soft_gpu::TensorMapContent;

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  constexpr cuuint32_t kElementBytes = 2;
  TensorMapContent content = {};
  content.mark = TensorMapContent::kMark;
  content.rank = rank;
  content.address = reinterpret_cast<uint64_t>(address);
  content.element_bytes = kElementBytes;
  content.span = static_cast<uint16_t>(16 << swizzle);
  if (type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || rank < 1 || rank > 5 ||
      reinterpret_cast<uint64_t>(map) % 64 != 0 || content.address % 16 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t d = 0; d < rank; ++d) {
    if (dims[d] == 0 || dims[d] > uint64_t{1} << 32 || box[d] == 0 || box[d] > 256 || steps[d] != 1)
      return CUDA_ERROR_INVALID_VALUE;
    content.size[d] = static_cast<uint32_t>(dims[d]);
    content.box[d] = static_cast<uint16_t>(box[d]);
  }
  for (cuuint32_t d = 0; d + 1 < rank; ++d) {
    if (strides[d] % 16 != 0 || strides[d] >= uint64_t{1} << 40) return CUDA_ERROR_INVALID_VALUE;
    content.stride[d] = strides[d];
  }
  const cuuint32_t row_bytes = box[0] * kElementBytes;
  if (row_bytes % 16 != 0 || (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && row_bytes > content.span))
    return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(map, &content, sizeof(content));
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
