// The size of the OpenMP pool that the calling thread's kernels use.
#pragma once

namespace tessera::cpu {

void set_threads(int threads);
int threads();

}  // namespace tessera::cpu
