// Work on streams: for stand-ins of libraries (cuBLASLt, NCCL) that submit some.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>

namespace soft_gpu {

// Runs `work` once all before it in the stream is done; captured where the stream captures, and then run at
// every replay. It runs on any thread, and may touch device memory of the stream's device.
cudaError_t enqueue(cudaStream_t stream, std::string name, std::function<void()> work);

// The same for work that must wait for others (a collective, for its peers): `step` returns whether it is
// done, is called again until it is, and must not block. After true it may start anew (a replay).
cudaError_t enqueue_steps(cudaStream_t stream, std::string name, std::function<bool()> step);

// The device of a stream; the current one's for the default stream.
int device_of(cudaStream_t stream);

// Is [pointer, pointer + bytes) within one live piece of device memory (of `device`, or any: -1)?
bool is_device_memory(const void* pointer, size_t bytes, int device = -1);

// Makes `error` what cudaGetLastError sees, and returns it.
cudaError_t remember(cudaError_t error);

}  // namespace soft_gpu
