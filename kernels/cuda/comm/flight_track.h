// One communicator's collectives, for messages and flight records: what the host submitted, and how far the
// device is.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/runtime/flight_record.h"
#include "core/runtime/progress_engine.h"
#include "kernels/cuda/comm/flight_marks.h"

namespace tessera::cuda {

class FlightTrack {
 public:
  // Takes pinned and device memory; on the current device.
  explicit FlightTrack(GroupInfo info);
  ~FlightTrack();
  FlightTrack(const FlightTrack&) = delete;

  const GroupInfo& info() const { return info_; }

  // Around the collective on its stream. By the rank's thread.
  void begin(const CollectiveCall& call, int64_t bytes, cudaStream_t stream);
  void end(cudaStream_t stream);

  // Any thread, also while the device hangs.
  uint64_t started() const;
  uint64_t finished() const;
  // The last collectives that the device began, oldest first; `group` is left 0.
  std::vector<FlightEntry> last(uint64_t count = kFlightMarks) const;
  FlightGroup counts() const;

 private:
  struct Call {
    CollectiveKind kind;
    int64_t bytes;
    std::string tensor;
    auto operator<=>(const Call&) const = default;
  };
  uint64_t number_of(const CollectiveCall& call, int64_t bytes);

  const GroupInfo info_;
  FlightWords* words_ = nullptr;
  FlightCounters* counters_ = nullptr;
  std::atomic<uint64_t> enqueued_{0};
  mutable std::mutex mutex_;  // of the calls
  std::map<Call, uint64_t> numbers_;
  std::vector<const Call*> calls_;  // by number
};

}  // namespace tessera::cuda
