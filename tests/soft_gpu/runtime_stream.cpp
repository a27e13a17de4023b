// CUDA's runtime: streams, events and host functions.
#include <algorithm>
#include <thread>

#include "tests/soft_gpu/engine.h"

using namespace soft_gpu;

namespace {

cudaError_t create_stream(cudaStream_t* stream, unsigned flags) {
  const std::lock_guard lock(queue_mutex());
  auto* const made = new CUstream_st;
  made->device = current_device();
  made->blocking = (flags & cudaStreamNonBlocking) == 0;
  device_at(made->device).streams.push_back(made);
  *stream = made;
  return cudaSuccess;
}

// Waiting for a stream that captures is an error, and the end of the capture.
cudaError_t refuse_captured(cudaStream_t stream) {
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (stream->capture) {
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  if (stream != device_at(stream->device).legacy) return cudaSuccess;
  for (const cudaStream_t other : device_at(stream->device).streams)
    if (other->blocking && other->capture) {
      other->capture->invalid = true;
      return cudaErrorStreamCaptureImplicit;
    }
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return create_stream(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) { return create_stream(stream, flags); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return create_stream(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::unique_lock lock(queue_mutex());
  const cudaStream_t real = stream ? resolve(stream) : nullptr;
  if (!real) return remember(cudaErrorInvalidResourceHandle);
  if (real->capture) return remember(cudaErrorStreamCaptureUnsupported);
  const After after{real->clock, real->submitted};
  const int device = real->device;
  lock.unlock();
  run_until(device, [&] { return after.reached(); });
  const std::lock_guard running(device_at(device).running);
  lock.lock();
  auto& streams = device_at(device).streams;
  streams.erase(std::find(streams.begin(), streams.end(), real));
  lock.unlock();
  delete real;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::unique_lock lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (const cudaError_t error = refuse_captured(real); error != cudaSuccess) return remember(error);
  After after{real->clock, real->submitted};
  const int device = real->device;
  std::vector<After> all{after};
  // The default stream also follows what the blocking ones did so far.
  if (real == device_at(device).legacy)
    for (const cudaStream_t other : device_at(device).streams)
      if (other->blocking) all.push_back({other->clock, other->submitted});
  lock.unlock();
  run_until(device, [&] { return std::all_of(all.begin(), all.end(), [](const After& a) { return a.reached(); }); });
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  std::unique_lock lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (const cudaError_t error = refuse_captured(real); error != cudaSuccess) return remember(error);
  const After after{real->clock, real->submitted};
  const int device = real->device;
  lock.unlock();
  run_some(device);
  return after.reached() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  {
    const std::lock_guard lock(queue_mutex());
    bool captures = false;
    for (const cudaStream_t stream : device_at(current_device()).streams)
      if (stream->capture) captures = stream->capture->invalid = true;
    if (captures) return remember(cudaErrorStreamCaptureUnsupported);
  }
  run_all(current_device());
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  // In a thread of its own: it may wait for whatever is not CUDA's, and other streams go on meanwhile.
  struct Call {
    std::thread thread;
    std::atomic<bool> is_done{false};
  };
  auto call = std::make_shared<Call>();
  return enqueue_steps(stream, "a host function", [call, function, argument] {
    if (!call->thread.joinable()) {
      call->is_done = false;
      call->thread = std::thread([call = call.get(), function, argument] {
        function(argument);
        call->is_done = true;
      });
    }
    if (!call->is_done) return false;
    call->thread.join();
    return true;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  auto* const made = new CUevent_st;
  made->device = current_device();
  made->flags = flags;
  *event = made;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(queue_mutex());
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (!real || !event || event->device != real->device) return remember(cudaErrorInvalidResourceHandle);
  if (real->capture) {
    if (real->capture->invalid) return remember(cudaErrorStreamCaptureInvalidated);
    event->capture = real->capture;
    event->tail = real->tail;
    return cudaSuccess;
  }
  event->capture.reset();
  const uint64_t count = ++event->recorded;
  return remember(submit(real, {"an event", [clock = event->clock, count] {
                                  clock->time = now_seconds();
                                  if (clock->done < count) clock->done = count;
                                  return true;
                                }}));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(stream);
  if (!real || !event) return remember(cudaErrorInvalidResourceHandle);
  if (event->capture) {
    if (real->capture && real->capture != event->capture) {
      real->capture->invalid = event->capture->invalid = true;
      return remember(cudaErrorStreamCaptureMerge);
    }
    if (event->capture->invalid) return remember(cudaErrorStreamCaptureInvalidated);
    if (!event->capture->origin) return remember(cudaErrorCapturedEvent);  // that capture has ended
    if (real == device_at(real->device).legacy) return remember(cudaErrorStreamCaptureImplicit);
    if (!real->capture) {  // the stream joins
      real->capture = event->capture;
      real->capture->streams.push_back(real);
      real->tail.clear();
    }
    for (int node : event->tail)
      if (std::find(real->tail.begin(), real->tail.end(), node) == real->tail.end()) real->tail.push_back(node);
    return cudaSuccess;
  }
  if (real->capture) {
    real->capture->invalid = true;
    return remember(cudaErrorStreamCaptureIsolation);
  }
  return remember(submit(real, {"waiting for an event", [] { return true; }}, {{event->clock, event->recorded}}));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::unique_lock lock(queue_mutex());
  if (!event) return remember(cudaErrorInvalidResourceHandle);
  if (event->capture) {
    event->capture->invalid = true;
    return remember(cudaErrorCapturedEvent);
  }
  const After after{event->clock, event->recorded};
  const int device = event->device;
  lock.unlock();
  run_until(device, [&] { return after.reached(); });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::unique_lock lock(queue_mutex());
  if (!event) return remember(cudaErrorInvalidResourceHandle);
  if (event->capture) {
    event->capture->invalid = true;
    return remember(cudaErrorCapturedEvent);
  }
  const After after{event->clock, event->recorded};
  const int device = event->device;
  lock.unlock();
  run_some(device);
  return after.reached() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const std::lock_guard lock(queue_mutex());
  if (!begin || !end || begin->recorded == 0 || end->recorded == 0 ||
      ((begin->flags | end->flags) & cudaEventDisableTiming))
    return remember(cudaErrorInvalidResourceHandle);
  if (begin->clock->done < begin->recorded || end->clock->done < end->recorded) return cudaErrorNotReady;
  *milliseconds = static_cast<float>((end->clock->time - begin->clock->time) * 1e3);
  return cudaSuccess;
}
