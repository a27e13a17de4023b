// When streams passed points in their work, by CUDA's events, in seconds of the host's steady clock.
//
// CUDA tells the time between two events (0.5 us at best), not when an event was. So a first event is recorded and
// waited for while the device is idle, with the host's clock read before and after; all others are told from
// there. The shortest of a few tries bounds the error: half of it, about 5 us over PCIe.
#pragma once

#include <cuda_runtime.h>

#include <vector>

namespace tessera::cuda {

// Of the current device. For one thread at a time.
class EventClock {
 public:
  EventClock() = default;
  ~EventClock();
  EventClock(const EventClock&) = delete;

  // Waits for `stream`, forgets all marks and ties the device's time to the host's anew. The clocks drift apart by
  // microseconds a second, and elapsed times are floats: so it is called for every profiled step.
  void restart(cudaStream_t stream);
  // Records an event, one of those made before if there is one left; its number, from 0.
  int mark(cudaStream_t stream);
  // Waits for the mark.
  double time_of(int mark) const;

 private:
  cudaEvent_t base_ = nullptr;
  double base_time_ = 0;
  std::vector<cudaEvent_t> events_;
  size_t used_ = 0;
};

}  // namespace tessera::cuda
