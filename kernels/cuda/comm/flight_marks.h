// What the device itself writes down of a communicator's collectives: which it has begun and ended, and when.
//
// Kernels write it, so that it also holds for work that is replayed from a recording and that the host does not
// submit again. It lies in pinned host memory, where it can be read while the device hangs.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

inline constexpr uint64_t kFlightMarks = 256;  // the last collectives of a communicator

struct FlightMark {
  uint64_t sequence;  // from 1; 0: none yet
  uint64_t call;      // which call it was, in the host's list
  uint64_t started, finished;  // ns of the device's clock, 0: not yet
};

// In pinned host memory. Only the device writes; the counters are stored last.
struct alignas(64) FlightWords {
  uint64_t started, finished;  // the last sequence number begun and ended
  FlightMark marks[kFlightMarks];
};

// In device memory: the same counters, where the kernels can read them.
struct FlightCounters {
  uint64_t started, finished;
};

// One thread each; they add some microseconds to a collective, on its own stream.
void mark_started(FlightWords* words, FlightCounters* counters, uint64_t call, cudaStream_t stream);
void mark_finished(FlightWords* words, FlightCounters* counters, cudaStream_t stream);

}  // namespace tessera::cuda
