// Bound by latency: one thread that stores 32 bytes to the host. Only the counters are read, from device memory,
// so that nothing waits for the bus.
#include "kernels/cuda/comm/flight_marks.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/system.h"

namespace tessera::cuda {
namespace {

__global__ void mark_started_kernel(FlightWords* words, FlightCounters* counters, uint64_t call) {
  const uint64_t sequence = ++counters->started;
  FlightMark& mark = words->marks[sequence % kFlightMarks];
  mark.call = call;
  mark.started = global_nanoseconds();
  mark.finished = 0;
  mark.sequence = sequence;
  store_release_system(&words->started, sequence);
}

__global__ void mark_finished_kernel(FlightWords* words, FlightCounters* counters) {
  const uint64_t sequence = ++counters->finished;
  words->marks[sequence % kFlightMarks].finished = global_nanoseconds();
  store_release_system(&words->finished, sequence);
}

}  // namespace

void mark_started(FlightWords* words, FlightCounters* counters, uint64_t call, cudaStream_t stream) {
  launch(mark_started_kernel, dim3(1), dim3(1), 0, stream, words, counters, call);
}

void mark_finished(FlightWords* words, FlightCounters* counters, cudaStream_t stream) {
  launch(mark_finished_kernel, dim3(1), dim3(1), 0, stream, words, counters);
}

}  // namespace tessera::cuda
