// Bound by memory: bytes / bandwidth. Called for small buffers only (ranks' coordinates, identities, loop
// carries), so one element a thread is enough.
#include "core/base/error.h"
#include "kernels/cuda/backend/fill.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

template <typename T>
__global__ void fill_kernel(T* to, T element, int64_t count) {
  const int64_t stride = int64_t{blockDim.x} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) to[i] = element;
}

template <typename T>
void fill_with(void* to, uint64_t element, int64_t count, cudaStream_t stream) {
  constexpr int kThreads = 256;
  const int64_t blocks = std::min<int64_t>((count + kThreads - 1) / kThreads, 4096);
  launch(fill_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, static_cast<T*>(to),
         static_cast<T>(element), count);
}

}  // namespace

void fill(void* to, uint64_t element, int64_t element_bytes, int64_t count, cudaStream_t stream) {
  if (count == 0) return;
  switch (element_bytes) {
    case 1:
      return check(cudaMemsetAsync(to, static_cast<int>(element & 0xff), static_cast<size_t>(count), stream), "memset");
    case 2: return fill_with<uint16_t>(to, element, count, stream);
    case 4: return fill_with<uint32_t>(to, element, count, stream);
    case 8: return fill_with<uint64_t>(to, element, count, stream);
    default: TESSERA_CHECK(false, "an element of ", element_bytes, " bytes");
  }
}

}  // namespace tessera::cuda
