// Streams, events, captures: what is not ordered happens in any order, and what CUDA refuses is refused.
#include <thread>

#include "tests/soft_gpu/soft_testing.h"

namespace soft_gpu {
namespace {

using StreamTest = SoftGpuTest;
using StreamDeathTest = SoftGpuDeathTest;
using CaptureTest = SoftGpuTest;

__global__ void set_kernel(int* to, int value) { *to = value; }
__global__ void copy_kernel(int* to, const int* from) { *to = *from; }

// Enough that no order stays unseen: the least likely one comes once in five.
constexpr int kTries = 100;

// One stream writes, the other reads: right in every order that events allow?
int wrong_handovers(bool has_event) {
  const DeviceArray<int> from(1), to(1);
  const Stream first, second;
  const Event written;
  return count_wrong(kTries, [&] {
    from.set(0);
    EXPECT_EQ(launch({1, 1, 0, first.get}, set_kernel, from.data(), 7), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(written.get, first.get), cudaSuccess);
    if (has_event) {
      EXPECT_EQ(cudaStreamWaitEvent(second.get, written.get), cudaSuccess);
    }
    EXPECT_EQ(launch({1, 1, 0, second.get}, copy_kernel, to.data(), from.data()), cudaSuccess);
    return to.get()[0] == 7;
  });
}

TEST_F(StreamTest, AMissingEventShows) {
  EXPECT_EQ(wrong_handovers(true), 0);
  EXPECT_GT(wrong_handovers(false), 0);
}

TEST_F(StreamTest, AnEventStandsForWhatWasBeforeItOnly) {
  const DeviceArray<int> from(1), to(1);
  const Stream first, second;
  const Event early;
  EXPECT_GT(count_wrong(kTries,
                        [&] {
                          from.set(0);
                          EXPECT_EQ(cudaEventRecord(early.get, first.get), cudaSuccess);
                          launch({1, 1, 0, first.get}, set_kernel, from.data(), 7);
                          EXPECT_EQ(cudaStreamWaitEvent(second.get, early.get), cudaSuccess);
                          launch({1, 1, 0, second.get}, copy_kernel, to.data(), from.data());
                          return to.get()[0] == 7;
                        }),
            0);
}

TEST_F(StreamTest, NothingIsDoneBeforeSomebodyWaits) {
  const DeviceArray<int> memory(1);
  int* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 4), cudaSuccess);
  const Stream stream;
  EXPECT_GT(count_wrong(kTries,
                        [&] {
                          *pinned = 0;
                          launch({1, 1, 0, stream.get}, set_kernel, memory.data(), 7);
                          EXPECT_EQ(cudaMemcpyAsync(pinned, memory.data(), 4, cudaMemcpyDeviceToHost, stream.get),
                                    cudaSuccess);
                          const bool is_there = *static_cast<volatile int*>(pinned) == 7;
                          EXPECT_EQ(cudaStreamSynchronize(stream.get), cudaSuccess);
                          EXPECT_EQ(*pinned, 7);
                          return is_there;
                        }),
            0);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(StreamTest, CopiesThatLeaveTheirMemoryAreRefused) {
  const DeviceArray<int> memory(4);
  std::vector<int> host(8);
  EXPECT_EQ(cudaMemcpy(memory.data(), host.data(), 20, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(memory.data(), host.data(), 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), host.data() + 4, 16, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy2DAsync(memory.data(), 4, host.data(), 4, 8, 1, cudaMemcpyHostToDevice),
            cudaErrorInvalidPitchValue);
  EXPECT_EQ(cudaMemset(host.data(), 0, 4), cudaErrorInvalidValue);
}
TEST_F(StreamDeathTest, CopiesOverThemselves) {
  const DeviceArray<int> memory(4);
  EXPECT_DEATH(cudaMemcpy(memory.data() + 1, memory.data(), 8, cudaMemcpyDeviceToDevice), "the two sides overlap");
}

TEST_F(StreamTest, MemoryIsFinite) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, size_t{1} << 40), cudaErrorMemoryAllocation);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

// --- Captures ----------------------------------------------------------------------------------------------------

TEST_F(CaptureTest, ReplaysKeepToTheEdgesAndToNothingElse) {
  const DeviceArray<int> from(1), to(1);
  const Stream origin, fork;
  const auto wrong_replays = [&](bool has_edge) {
    const Event begun, written, joined;
    EXPECT_EQ(cudaStreamBeginCapture(origin.get, cudaStreamCaptureModeGlobal), cudaSuccess);
    cudaEventRecord(begun.get, origin.get);
    cudaStreamWaitEvent(fork.get, begun.get);
    launch({1, 1, 0, origin.get}, set_kernel, from.data(), 7);
    cudaEventRecord(written.get, origin.get);
    if (has_edge) cudaStreamWaitEvent(fork.get, written.get);
    launch({1, 1, 0, fork.get}, copy_kernel, to.data(), from.data());
    cudaEventRecord(joined.get, fork.get);
    cudaStreamWaitEvent(origin.get, joined.get);
    cudaGraph_t graph;
    EXPECT_EQ(cudaStreamEndCapture(origin.get, &graph), cudaSuccess);
    cudaGraphExec_t executable;
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    const int wrong = count_wrong(kTries, [&] {
      from.set(0);
      EXPECT_EQ(cudaGraphLaunch(executable, origin.get), cudaSuccess);
      return to.get()[0] == 7;
    });
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    return wrong;
  };
  EXPECT_EQ(wrong_replays(true), 0);
  EXPECT_GT(wrong_replays(false), 0);
}

// What `call` answers while a stream captures, and then the end of the capture.
template <typename CallIt>
std::pair<cudaError_t, cudaError_t> while_capturing(const CallIt& call) {
  const Stream stream;
  EXPECT_EQ(cudaStreamBeginCapture(stream.get, cudaStreamCaptureModeGlobal), cudaSuccess);
  const cudaError_t answer = call(stream.get);
  cudaGraph_t graph = nullptr;
  const cudaError_t end = cudaStreamEndCapture(stream.get, &graph);
  if (graph) cudaGraphDestroy(graph);
  return {answer, end};
}

TEST_F(CaptureTest, WhatCannotBeCapturedEndsTheCapture) {
  const DeviceArray<int> memory(1);
  int on_host = 0;
  void* pointer = nullptr;
  const std::pair unsupported(cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(while_capturing([&](cudaStream_t) { return cudaMalloc(&pointer, 4); }), unsupported);
  EXPECT_EQ(while_capturing([&](cudaStream_t) { return cudaMallocHost(&pointer, 4); }), unsupported);
  EXPECT_EQ(while_capturing([&](cudaStream_t) { return cudaFree(memory.data()); }), unsupported);
  EXPECT_EQ(while_capturing([](cudaStream_t) { return cudaDeviceSynchronize(); }), unsupported);
  EXPECT_EQ(while_capturing([](cudaStream_t stream) { return cudaStreamSynchronize(stream); }), unsupported);
  EXPECT_EQ(while_capturing([](cudaStream_t stream) { return cudaStreamQuery(stream); }), unsupported);
  // Memory that is not pinned.
  EXPECT_EQ(while_capturing([&](cudaStream_t stream) {
              return cudaMemcpyAsync(memory.data(), &on_host, 4, cudaMemcpyHostToDevice, stream);
            }),
            unsupported);
  const Event outside, inside;
  const Stream other;
  ASSERT_EQ(cudaEventRecord(outside.get, other.get), cudaSuccess);
  EXPECT_EQ(while_capturing([&](cudaStream_t stream) { return cudaStreamWaitEvent(stream, outside.get); }),
            std::pair(cudaErrorStreamCaptureIsolation, cudaErrorStreamCaptureInvalidated));
  EXPECT_EQ(while_capturing([&](cudaStream_t stream) {
              cudaEventRecord(inside.get, stream);
              return cudaEventSynchronize(inside.get);
            }),
            std::pair(cudaErrorCapturedEvent, cudaErrorStreamCaptureInvalidated));
  EXPECT_EQ(while_capturing([&](cudaStream_t stream) { return cudaEventRecord(inside.get, stream); }),
            std::pair(cudaSuccess, cudaSuccess));
  EXPECT_EQ(cudaStreamWaitEvent(other.get, inside.get), cudaErrorCapturedEvent);  // its capture has ended
  EXPECT_EQ(while_capturing([&](cudaStream_t stream) {
              return launch({1, 1, 0, stream}, set_kernel, memory.data(), 1);
            }),
            std::pair(cudaSuccess, cudaSuccess));
}

TEST_F(CaptureTest, AStreamThatDoesNotComeBackIsRefused) {
  const DeviceArray<int> memory(1);
  const Stream fork;
  const Event begun;
  EXPECT_EQ(while_capturing([&](cudaStream_t stream) {
              cudaEventRecord(begun.get, stream);
              cudaStreamWaitEvent(fork.get, begun.get);
              return launch({1, 1, 0, fork.get}, set_kernel, memory.data(), 1);
            }),
            std::pair(cudaSuccess, cudaErrorStreamCaptureUnjoined));
}

TEST_F(CaptureTest, TheDefaultStreamAndOtherThreads) {
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureImplicit);
  cudaStream_t blocking;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  const DeviceArray<int> memory(1);
  ASSERT_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(launch({}, set_kernel, memory.data(), 1), cudaErrorStreamCaptureImplicit);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated);
  ASSERT_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal), cudaSuccess);
  std::thread([&] { EXPECT_EQ(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureWrongThread); }).join();
  EXPECT_EQ(cudaStreamEndCapture(blocking, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

}  // namespace
}  // namespace soft_gpu
