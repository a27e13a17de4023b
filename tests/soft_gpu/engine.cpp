#include "tests/soft_gpu/engine.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <thread>

#include "tests/soft_gpu/memory.h"

namespace soft_gpu {
namespace {

// Work that nobody waits for runs after this time, as a GPU would have done by itself.
constexpr double kLongSeconds = 0.1;

struct Engine {
  std::mutex mutex;
  Device devices[16];
  std::condition_variable submitted;
  std::atomic<bool> is_urgent{false};
  bool has_background = false;
};

Engine& engine() {
  static Engine* const kEngine = new Engine;  // the background outlives static destruction
  return *kEngine;
}

enum class Progress { none, tried, some };

// One step of a random stream's head.
Progress run_one(int index) {
  Device& device = engine().devices[index];
  const std::lock_guard running(device.running);
  cudaStream_t stream = nullptr;
  Entry* entry = nullptr;
  {
    const std::lock_guard lock(engine().mutex);
    size_t found = 0;
    for (const cudaStream_t candidate : device.streams) {
      if (candidate->queue.empty()) continue;
      Entry& head = candidate->queue.front();
      if (!std::all_of(head.after.begin(), head.after.end(), [](const After& a) { return a.reached(); })) continue;
      if (device.random.below(++found) == 0) {
        stream = candidate;
        entry = &head;
      }
    }
    if (!entry) return Progress::none;
  }
  bool is_done = false;
  try {
    is_done = entry->work.step();
  } catch (const std::exception& error) {
    fail("%s: %s", entry->work.name.c_str(), error.what());
  }
  if (!is_done) return Progress::tried;
  Entry finished;  // destroyed without the lock
  const std::lock_guard lock(engine().mutex);
  finished = std::move(*entry);
  stream->queue.pop_front();
  stream->clock->time = now_seconds();
  ++stream->clock->done;
  --device.pending;
  device.oldest = now_seconds();
  return Progress::some;
}

void run_background() {
  Engine& all = engine();
  for (;;) {
    std::vector<int> late;
    {
      std::unique_lock lock(all.mutex);
      const auto has_work = [&] {
        return std::any_of(std::begin(all.devices), std::end(all.devices), [](const Device& d) { return d.pending > 0; });
      };
      all.submitted.wait(lock, has_work);
      const bool urgent = all.is_urgent.exchange(false);
      for (int d = 0; d < 16; ++d)
        if (all.devices[d].pending > 0 && (urgent || now_seconds() - all.devices[d].oldest > kLongSeconds))
          late.push_back(d);
    }
    for (int d : late) {
      const MemoryOpen open(d);
      while (run_one(d) == Progress::some) {
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(late.empty() ? 2000 : 200));
  }
}

}  // namespace

std::mutex& queue_mutex() { return engine().mutex; }

Device& device_at(int index) {
  Device& device = engine().devices[index];
  if (!device.legacy) {
    device.legacy = new CUstream_st;
    device.legacy->device = index;
    device.streams.push_back(device.legacy);
    device.random = device.launches = Random(seed() + static_cast<uint64_t>(index));
  }
  return device;
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

uint64_t this_thread_number() {
  static std::atomic<uint64_t> next{1};
  thread_local const uint64_t kNumber = next++;
  return kNumber;
}

cudaStream_t resolve(cudaStream_t stream) {
  if (!stream || stream == cudaStreamLegacy) return device_at(current_device()).legacy;
  for (int d = 0; d < device_count(); ++d) {
    const auto& streams = device_at(d).streams;
    if (std::find(streams.begin(), streams.end(), stream) != streams.end()) return stream;
  }
  return nullptr;
}

cudaError_t submit(cudaStream_t stream, Work work, std::vector<After> after) {
  if (stream->capture) {
    Capture& capture = *stream->capture;
    if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
    capture.nodes.push_back({std::move(work), stream->tail});
    stream->tail = {static_cast<int>(capture.nodes.size()) - 1};
    return cudaSuccess;
  }
  Device& device = device_at(stream->device);
  Entry entry{std::move(work), std::move(after)};
  if (stream == device.legacy) {
    for (const cudaStream_t other : device.streams) {
      if (!other->blocking || other == stream) continue;
      if (other->capture) {
        other->capture->invalid = true;
        return cudaErrorStreamCaptureImplicit;
      }
      entry.after.push_back({other->clock, other->submitted});
    }
  } else if (stream->blocking) {
    entry.after.push_back({device.legacy->clock, device.legacy->submitted});
  }
  stream->queue.push_back(std::move(entry));
  ++stream->submitted;
  if (device.pending++ == 0) device.oldest = now_seconds();
  Engine& all = engine();
  if (!all.has_background) {
    all.has_background = true;
    std::thread(run_background).detach();
  }
  if (device.pending == 1) all.submitted.notify_one();
  return cudaSuccess;
}

cudaError_t enqueue_steps(cudaStream_t stream, std::string name, std::function<bool()> step) {
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (!real) return remember(cudaErrorInvalidResourceHandle);
  return remember(submit(real, {std::move(name), std::move(step)}));
}

cudaError_t enqueue(cudaStream_t stream, std::string name, std::function<void()> work) {
  return enqueue_steps(stream, std::move(name), [work = std::move(work)] {
    work();
    return true;
  });
}

int device_of(cudaStream_t stream) {
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  return real ? real->device : -1;
}

void run_until(int device, const std::function<bool()>& reached) {
  if (!reached()) {
    const MemoryOpen open(device);
    for (int idle = 0; !reached();) {
      if (run_one(device) == Progress::some) {
        idle = 0;
        continue;
      }
      // It waits for another device, or for the host.
      engine().is_urgent = true;
      if (++idle < 20)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    const std::lock_guard running(engine().devices[device].running);
    check_guards(device);
  }
}

void run_all(int device) {
  std::vector<After> all;
  {
    const std::lock_guard lock(queue_mutex());
    for (const cudaStream_t stream : device_at(device).streams) all.push_back({stream->clock, stream->submitted});
  }
  run_until(device, [&] { return std::all_of(all.begin(), all.end(), [](const After& a) { return a.reached(); }); });
}

void run_some(int device) {
  uint64_t count;
  {
    const std::lock_guard lock(queue_mutex());
    count = device_at(device).pending > 0 ? device_at(device).random.below(3) : 0;
  }
  if (count == 0) return;
  const MemoryOpen open(device);
  while (count-- > 0) run_one(device);
}

}  // namespace soft_gpu
