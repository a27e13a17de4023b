// Streams, events, captures: what is submitted, and who runs it when. For the runtime's own files.
//
// Nothing runs when it is submitted. Whoever waits (synchronize, free, a query now and then) runs the heads of
// the device's streams, in random order, until what it waits for is done. A thread in the background does so
// for what has waited long, or where another device's work waits for it.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/soft_gpu/random.h"
#include "tests/soft_gpu/stream_work.h"

namespace soft_gpu {

// How far a stream or an event's records have come; outlives both.
struct Clock {
  std::atomic<uint64_t> done{0};
  std::atomic<double> time{0};  // seconds, of the last
};
struct After {
  std::shared_ptr<Clock> clock;
  uint64_t count;
  bool reached() const { return clock->done.load() >= count; }
};

struct Work {
  std::string name;
  std::function<bool()> step;  // true: done
};

struct Node {
  Work work;
  std::vector<int> after;  // earlier nodes
};
struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  uint64_t thread = 0;
  bool invalid = false;
  std::vector<Node> nodes;
  std::vector<cudaStream_t> streams;
};

struct Entry {
  Work work;
  std::vector<After> after;
};

struct Device {
  std::mutex running;  // held by the thread that runs this device's work
  std::vector<cudaStream_t> streams;
  cudaStream_t legacy = nullptr;
  Random random{1};
  Random launches{1};  // drawn from as kernels and graphs are launched: the n-th runs alike however fast the host is
  double oldest = 0;  // when the oldest pending work was submitted
  int64_t pending = 0;
};

// Guards all queues, handles and captures; never held while work runs.
std::mutex& queue_mutex();
Device& device_at(int index);

// Under queue_mutex(): adds to the stream's queue, or to its capture.
// `after`: what else it waits for, where it is not captured.
cudaError_t submit(cudaStream_t stream, Work work, std::vector<After> after = {});
// Resolves null and the legacy stream's names; null: no such stream. Under queue_mutex().
cudaStream_t resolve(cudaStream_t stream);

// Runs the device's work until reached(). Not under any lock.
void run_until(int device, const std::function<bool()>& reached);
void run_all(int device);
void run_some(int device);

int current_device();
int device_count();
uint64_t this_thread_number();
double now_seconds();

// Whether the calling thread may call what is unsafe while it captures (cudaMalloc, ...); invalidates its
// captures where not. Under queue_mutex().
bool unsafe_call_allowed();

}  // namespace soft_gpu

struct CUstream_st {
  int device = 0;
  bool blocking = true;
  std::shared_ptr<soft_gpu::Clock> clock = std::make_shared<soft_gpu::Clock>();
  uint64_t submitted = 0;
  std::deque<soft_gpu::Entry> queue;
  std::shared_ptr<soft_gpu::Capture> capture;
  std::vector<int> tail;  // nodes that the next one follows, while it captures
};
struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  std::shared_ptr<soft_gpu::Clock> clock = std::make_shared<soft_gpu::Clock>();
  uint64_t recorded = 0;
  std::shared_ptr<soft_gpu::Capture> capture;  // of the last record
  std::vector<int> tail;
};
struct CUgraph_st {
  std::vector<soft_gpu::Node> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<soft_gpu::Node>> nodes;
  std::shared_ptr<soft_gpu::Clock> clock = std::make_shared<soft_gpu::Clock>();
  uint64_t launched = 0;
};
