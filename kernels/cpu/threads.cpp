#include "kernels/cpu/threads.h"

#include <omp.h>

#include "kernels/cpu/parallel.h"

namespace tessera::cpu {

void set_threads(int threads) { omp_set_num_threads(threads); }
int threads() { return omp_get_max_threads(); }

void run_tasks(int64_t tasks, const std::function<void(int64_t)>& task) { parallel_for(tasks, task); }

}  // namespace tessera::cpu
