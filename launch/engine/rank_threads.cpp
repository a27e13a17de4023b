#include "launch/engine/rank_threads.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace tessera {

int rank_threads(const JobConfig& job, const World& world) { return rank_threads(job.train.threads, world); }

int rank_threads(int64_t wanted, const World& world) {
  if (wanted > 0) return static_cast<int>(wanted);
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) cores = CPU_COUNT(&allowed);
  // Bound to fewer cores than the host has, a rank has them for itself.
  const bool bound = cores < static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, bound ? cores : cores / std::max(1, world.local_size()));
}

}  // namespace tessera
