// The OpenMP pool that the calling thread's kernels use, for callers that are not kernels.
#pragma once

#include <cstdint>
#include <functional>

namespace tessera::cpu {

void set_threads(int threads);
int threads();

// Calls task(i) for each i in [0, tasks), each on some thread of the pool, in any order; what one of
// them throws, the caller gets. (In kernels: parallel.h, without the indirect call.)
void run_tasks(int64_t tasks, const std::function<void(int64_t)>& task);

}  // namespace tessera::cpu
