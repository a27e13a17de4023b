// Floor: every element read and written once. Reads that jump by more than 32 bytes cost a sector each, up to 16
// times that for bf16: products whose operands lie so are rare, and the product itself costs more.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/matmul/gather_operand.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;

template <typename Word>
__global__ void gather_kernel(GatherDims dims, const Word* from, Word* to, int64_t count) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    int64_t rest = i, place = 0;
    for (int d = dims.count; d-- > 0;) {
      const int64_t outer = rest / dims.size[d];
      place += (rest - outer * dims.size[d]) * dims.stride[d];
      rest = outer;
    }
    to[i] = from[place];
  }
}

template <typename Word>
void gather_words(const GatherDims& dims, const void* from, void* to, int64_t count, cudaStream_t stream) {
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  launch(gather_kernel<Word>, dim3(static_cast<unsigned>(blocks < 65536 ? blocks : 65536)), dim3(kThreads), 0,
         stream, dims, static_cast<const Word*>(from), static_cast<Word*>(to), count);
}

}  // namespace

void gather_operand(int64_t element_bytes, const GatherDims& dims, const void* from, void* to, cudaStream_t stream) {
  int64_t count = 1;
  for (int d = 0; d < dims.count; ++d) count *= dims.size[d];
  if (count == 0) return;
  if (element_bytes == 2) return gather_words<uint16_t>(dims, from, to, count, stream);
  if (element_bytes == 4) return gather_words<uint32_t>(dims, from, to, count, stream);
  gather_words<uint64_t>(dims, from, to, count, stream);
}

}  // namespace tessera::cuda
