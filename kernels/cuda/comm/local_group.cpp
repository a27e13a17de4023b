#include "kernels/cuda/comm/local_group.h"

#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/backend/context.h"

namespace tessera::cuda {

Ticket LocalGroup::start(const CollectiveCall& call) {
  geometry_.assign(call, 1);
  const auto bytes = static_cast<size_t>(geometry_.input_bytes());
  const cudaStream_t stream = context_of(call.stream).stream;
  if (call.kind == CollectiveKind::permute && call.receive_from < 0)
    check(cudaMemsetAsync(call.output, 0, bytes, stream), "memset");
  else if (call.output != call.input && bytes > 0)
    check(cudaMemcpyAsync(call.output, call.input, bytes, cudaMemcpyDeviceToDevice, stream), "a copy on the device");
  return 0;
}

}  // namespace tessera::cuda
