#include "kernels/cuda/comm/flight_track.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {
namespace {

// Pinned memory is handed on and never given back: to free some, CUDA waits for all devices of the process, of which
// one may hang in a collective that this rank shall end.
class WordsPool {
 public:
  FlightWords* take() {
    const std::lock_guard lock(mutex_);
    void* memory = nullptr;
    if (free_.empty()) {
      check(cudaHostAlloc(&memory, sizeof(FlightWords), cudaHostAllocPortable | cudaHostAllocMapped),
            "pinned host memory");
    } else {
      memory = free_.back();
      free_.pop_back();
    }
    std::memset(memory, 0, sizeof(FlightWords));
    return static_cast<FlightWords*>(memory);
  }
  void give_back(FlightWords* words) {
    const std::lock_guard lock(mutex_);
    free_.push_back(words);
  }

 private:
  std::mutex mutex_;
  std::vector<FlightWords*> free_;
};

WordsPool& words_pool() {
  static WordsPool pool;
  return pool;
}

uint64_t load_acquire(uint64_t& word) { return std::atomic_ref<uint64_t>(word).load(std::memory_order_acquire); }

}  // namespace

FlightTrack::FlightTrack(GroupInfo info) : info_(std::move(info)) {
  words_ = words_pool().take();
  void* memory = nullptr;
  check(cudaMalloc(&memory, sizeof(FlightCounters)), "cudaMalloc");
  counters_ = static_cast<FlightCounters*>(memory);
  check(cudaMemset(counters_, 0, sizeof(FlightCounters)), "memset");
  check(cudaStreamSynchronize(cudaStreamLegacy), "memset");  // the group's stream does not wait for that one
}

FlightTrack::~FlightTrack() {
  cudaFree(counters_);
  words_pool().give_back(words_);
}

uint64_t FlightTrack::number_of(const CollectiveCall& call, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto [found, is_new] = numbers_.try_emplace({call.kind, bytes, std::string(call.tensor)}, calls_.size());
  if (is_new) calls_.push_back(&found->first);
  return found->second;
}

void FlightTrack::begin(const CollectiveCall& call, int64_t bytes, cudaStream_t stream) {
  mark_started(words_, counters_, number_of(call, bytes), stream);
  enqueued_.fetch_add(1, std::memory_order_relaxed);
}

void FlightTrack::end(cudaStream_t stream) { mark_finished(words_, counters_, stream); }

uint64_t FlightTrack::started() const { return load_acquire(words_->started); }
uint64_t FlightTrack::finished() const { return load_acquire(words_->finished); }

FlightGroup FlightTrack::counts() const {
  // `finished` first: it never passes `started`.
  const uint64_t done = finished();
  return {info_.name, info_.members, enqueued_.load(std::memory_order_relaxed), started(), done};
}

std::vector<FlightEntry> FlightTrack::last(uint64_t count) const {
  std::vector<FlightEntry> entries;
  const uint64_t newest = started();
  const std::lock_guard lock(mutex_);
  for (uint64_t sequence = newest - std::min({count, kFlightMarks - 1, newest}) + 1; sequence <= newest; ++sequence) {
    const FlightMark mark = words_->marks[sequence % kFlightMarks];
    if (mark.sequence != sequence || mark.call >= calls_.size()) continue;  // the device has gone on
    const Call& call = *calls_[mark.call];
    entries.push_back({0, sequence, call.kind, call.tensor, call.bytes, mark.started, mark.finished});
  }
  return entries;
}

}  // namespace tessera::cuda
