#include "kernels/cuda/backend/event_clock.h"

#include "core/base/error.h"
#include "core/runtime/timeline.h"
#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {

EventClock::~EventClock() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
  if (base_) cudaEventDestroy(base_);
}

void EventClock::restart(cudaStream_t stream) {
  used_ = 0;
  if (!base_) check(cudaEventCreate(&base_), "creating an event");
  check(cudaStreamSynchronize(stream), "waiting for the device");
  // Only the last record of an event counts, so the tries go on until one is about as short as the shortest.
  constexpr int kTries = 8;
  double shortest = 1;
  for (int tried = 0; tried < 2 * kTries; ++tried) {
    const double before = steady_seconds();
    check(cudaEventRecord(base_, stream), "recording an event");
    check(cudaEventSynchronize(base_), "waiting for an event");
    const double after = steady_seconds();
    base_time_ = (before + after) / 2;
    if (tried >= kTries && after - before <= 1.1 * shortest) return;
    shortest = std::min(shortest, after - before);
  }
}

int EventClock::mark(cudaStream_t stream) {
  if (used_ == events_.size()) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event), "creating an event");
    events_.push_back(event);
  }
  check(cudaEventRecord(events_[used_], stream), "recording an event");
  return static_cast<int>(used_++);
}

double EventClock::time_of(int mark) const {
  TESSERA_CHECK(mark >= 0 && static_cast<size_t>(mark) < used_, "mark ", mark, " of ", used_);
  const cudaEvent_t event = events_[static_cast<size_t>(mark)];
  check(cudaEventSynchronize(event), "waiting for an event");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, base_, event), "the time between events");
  return base_time_ + 1e-3 * static_cast<double>(milliseconds);
}

}  // namespace tessera::cuda
