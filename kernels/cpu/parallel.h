// Threads of the CPU kernels: OpenMP is the only pool, its size is the caller's
// omp_get_max_threads.
//
// Work is cut by the shape alone (`Chunks`), never by the number of threads, so that a result is
// bitwise the same with any number of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

namespace tessera::cpu {

// [0, total) in pieces of `size`; the last may be shorter.
struct Chunks {
  int64_t total = 0;
  int64_t size = 1;

  int64_t count() const { return (total + size - 1) / size; }
  int64_t begin(int64_t chunk) const { return chunk * size; }
  int64_t end(int64_t chunk) const { return std::min(total, (chunk + 1) * size); }
};

// Chunks of at least `smallest` items, and at most `most` of them.
inline Chunks chunks_of(int64_t total, int64_t smallest, int64_t most) {
  return {total, std::max({smallest, (total + most - 1) / most, int64_t{1}})};
}

// Calls body(task) for each task in [0, tasks), each on some thread. The order is free: tasks must
// not write what another one reads or writes. What the body throws, the caller gets.
template <typename Body>
void parallel_for(int64_t tasks, const Body& body) {
  if (tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
    return;
  }
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t task = 0; task < tasks; ++task) {
    try {
      body(task);
    } catch (...) {
#pragma omp critical
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

// Calls body(begin, end) over pieces of [0, total) of about `grain` items.
template <typename Body>
void parallel_ranges(int64_t total, int64_t grain, const Body& body) {
  const Chunks chunks{total, std::max<int64_t>(grain, 1)};
  parallel_for(chunks.count(), [&](int64_t c) { body(chunks.begin(c), chunks.end(c)); });
}

}  // namespace tessera::cpu
