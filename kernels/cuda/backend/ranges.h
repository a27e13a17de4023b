// NVTX ranges of the calling thread, in the domain "tessera": what Nsight Systems shows above the kernels. Where no
// tool is attached a range is a call through a null pointer's test.
#pragma once

namespace tessera::cuda {

void begin_range(const char* name);  // the name is copied by the tool
void end_range() noexcept;

}  // namespace tessera::cuda
