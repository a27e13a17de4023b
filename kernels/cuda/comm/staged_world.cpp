#include "kernels/cuda/comm/staged_world.h"

#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {

StagedWorld::StagedWorld(World& inner, CudaBackend& backend, std::string transport)
    : CudaWorld(inner, backend, std::move(transport)) {
  room_.device = backend.context().device;
  // Two streams: a result must not queue behind an operand whose compute is not done.
  check(cudaStreamCreateWithFlags(&room_.out, cudaStreamNonBlocking), "creating a stream");
  check(cudaStreamCreateWithFlags(&room_.in, cudaStreamNonBlocking), "creating a stream");
}

StagedWorld::~StagedWorld() {
  if (cudaSetDevice(room_.device) != cudaSuccess) return;
  for (cudaStream_t stream : {room_.out, room_.in}) {
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
}

std::unique_ptr<Communicator> StagedWorld::create_device_group(std::span<const int>, std::string_view,
                                                               std::unique_ptr<Communicator> inner) {
  return std::make_unique<StagedGroup>(std::move(inner), &room_);
}

}  // namespace tessera::cuda
