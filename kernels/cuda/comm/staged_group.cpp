#include "kernels/cuda/comm/staged_group.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/error.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/backend/context.h"

namespace tessera::cuda {
namespace {

// Whether the call reads this rank's input.
bool sends(const CollectiveCall& call, int rank) {
  if (call.kind == CollectiveKind::permute) return call.send_to >= 0;
  return call.kind != CollectiveKind::broadcast || call.root == rank;
}

bool is_over(cudaEvent_t event) {
  const cudaError_t state = cudaEventQuery(event);
  if (state == cudaErrorNotReady) return false;
  check(state, "a copy of a collective");
  return true;
}

}  // namespace

void StagedRoom::flush() {
  const auto has = [&](bool (StagedGroup::*what)() const) {
    return std::any_of(groups.begin(), groups.end(), [&](StagedGroup* group) { return (group->*what)(); });
  };
  while (has(&StagedGroup::has_queued)) {
    // While others may need this rank in what is in flight, it must not sleep in one copy.
    const bool sleeps = !has(&StagedGroup::has_in_flight);
    for (StagedGroup* group : groups) {
      group->advance(sleeps);
      if (!sleeps) group->poll();
    }
    if (!sleeps) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

StagedGroup::StagedGroup(std::unique_ptr<Communicator> inner, StagedRoom* room)
    : inner_(std::move(inner)), room_(room) {
  check(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), "creating an event");
  room_->groups.push_back(this);
}

StagedGroup::~StagedGroup() {
  std::erase(room_->groups, this);
  if (cudaSetDevice(room_->device) != cudaSuccess) return;
  cudaStreamSynchronize(room_->out);
  cudaStreamSynchronize(room_->in);
  release_buffers(true);
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
  cudaEventDestroy(ready_);
}

cudaEvent_t StagedGroup::take_event() {
  cudaEvent_t event = nullptr;
  if (free_events_.empty()) {
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
    events_.push_back(event);
    return event;
  }
  event = free_events_.back();
  free_events_.pop_back();
  return event;
}

std::byte* StagedGroup::place(const void* device, int64_t bytes, StagingMemory::Buffer& buffer) {
  if (std::byte* shadow = room_->memory.shadow(device, bytes)) return shadow;
  buffer = room_->memory.acquire(bytes);
  return buffer.data;
}

void StagedGroup::release_buffers(bool all) {
  while (!leaving_.empty() && (all || is_over(leaving_.front().copied))) {
    room_->memory.release(leaving_.front().buffer);
    free_events_.push_back(leaving_.front().copied);
    leaving_.pop_front();
  }
}

Ticket StagedGroup::start(const CollectiveCall& call) {
  check(cudaSetDevice(room_->device), "cudaSetDevice");
  release_buffers(false);
  geometry_.assign(call, size());
  const int64_t input_bytes = geometry_.input_bytes(), output_bytes = geometry_.output_bytes();
  Operation operation{++last_, call, call.output, output_bytes, context_of(call.stream).stream, take_event()};
  operation.call.stream = nullptr;
  operation.call.input = place(call.input, input_bytes, operation.staged_input);
  operation.call.output = call.output == call.input ? const_cast<void*>(operation.call.input)
                                                    : place(call.output, output_bytes, operation.staged_output);
  // Also where nothing is copied: the shadow of the output may still be read by the copy of an earlier result.
  check(cudaEventRecord(ready_, operation.compute), "recording an event");
  check(cudaStreamWaitEvent(room_->out, ready_), "waiting for an event");
  if (sends(call, rank()) && input_bytes > 0)
    check(cudaMemcpyAsync(const_cast<void*>(operation.call.input), call.input, static_cast<size_t>(input_bytes),
                          cudaMemcpyDeviceToHost, room_->out),
          "a copy to the host");
  check(cudaEventRecord(operation.copied, room_->out), "recording an event");
  operations_.push_back(std::move(operation));
  ++queued_;
  return last_;
}

void StagedGroup::advance(bool wait) {
  while (queued_ > 0) {
    Operation& operation = operations_[operations_.size() - queued_];
    if (wait)
      check(cudaEventSynchronize(operation.copied), "a copy of a collective");
    else if (!is_over(operation.copied))
      return;
    --queued_;
    operation.inner = inner_->start(operation.call);
  }
}

void StagedGroup::poll() {
  if (operations_.empty()) return;
  advance(false);
  inner_->poll();
}

void StagedGroup::wait(Ticket ticket) {
  check(cudaSetDevice(room_->device), "cudaSetDevice");
  const auto found = std::find_if(operations_.begin(), operations_.end(),
                                  [&](const Operation& operation) { return operation.ticket == ticket; });
  TESSERA_CHECK(found != operations_.end(), "group '", name(), "' has no ticket ", ticket);
  room_->flush();
  inner_->wait(found->inner);
  if (found->output_bytes > 0)
    check(cudaMemcpyAsync(found->output, found->call.output, static_cast<size_t>(found->output_bytes),
                          cudaMemcpyHostToDevice, room_->in),
          "a copy to the device");
  check(cudaEventRecord(found->copied, room_->in), "recording an event");
  check(cudaStreamWaitEvent(found->compute, found->copied), "waiting for an event");
  const auto leave = [&](const StagingMemory::Buffer& buffer) {
    if (!buffer.data) return;
    const cudaEvent_t copied = take_event();
    check(cudaEventRecord(copied, room_->in), "recording an event");
    leaving_.push_back({buffer, copied});
  };
  leave(found->staged_input);
  leave(found->staged_output);
  free_events_.push_back(found->copied);
  operations_.erase(found);
}

}  // namespace tessera::cuda
