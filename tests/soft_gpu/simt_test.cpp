// What a block's threads may not do, and what shows when they do it.
#include <cmath>
#include <numeric>

#include "tests/soft_gpu/soft_testing.h"

namespace soft_gpu {
namespace {

constexpr int kThreads = 64;

using SimtTest = SoftGpuTest;
using SimtDeathTest = SoftGpuDeathTest;

// --- Barriers --------------------------------------------------------------------------------------------------

template <bool kHasBarrier>
__global__ void neighbour_kernel(int* out) {
  __shared__ int shared[kThreads];
  const unsigned t = threadIdx.x;
  shared[t] = static_cast<int>(t);
  if (kHasBarrier) __syncthreads();
  out[t] = shared[(t + 1) % kThreads];
}
// Two rounds over one buffer: the second writes what others may not have read yet.
template <bool kHasBarrier>
__global__ void two_rounds_kernel(int* out) {
  __shared__ int shared[kThreads];
  const unsigned t = threadIdx.x;
  shared[t] = 1;
  __syncthreads();
  const int first = shared[(t + 1) % kThreads];
  if (kHasBarrier) __syncthreads();
  shared[t] = 2;
  __syncthreads();
  out[t] = first;
}
// Sums of a warp in the manner of old, right only if its lanes go in step.
template <bool kHasBarrier>
__global__ void lockstep_kernel(int* out) {
  __shared__ int shared[64];
  const unsigned t = threadIdx.x;
  shared[t] = 1;
  shared[t + 32] = 0;
  if (kHasBarrier) __syncwarp();
  for (unsigned lanes = 16; lanes > 0; lanes /= 2) {
    const int other = shared[t + lanes];
    if (kHasBarrier) __syncwarp();
    shared[t] += other;
    if (kHasBarrier) __syncwarp();
  }
  out[t] = shared[0];
}

template <typename Kernel>
int wrong_runs(Kernel* kernel, unsigned threads, const std::vector<int>& want) {
  const DeviceArray<int> out(threads);
  return count_wrong(10, [&] {
    EXPECT_EQ(launch({1, threads}, kernel, out.data()), cudaSuccess);
    return out.get() == want;
  });
}

TEST_F(SimtTest, AMissingBarrierShows) {
  std::vector<int> want(kThreads);
  for (int t = 0; t < kThreads; ++t) want[static_cast<size_t>(t)] = (t + 1) % kThreads;
  EXPECT_EQ(wrong_runs(neighbour_kernel<true>, kThreads, want), 0);
  EXPECT_GT(wrong_runs(neighbour_kernel<false>, kThreads, want), 0);
}

TEST_F(SimtTest, AMissingBarrierBeforeSharedMemoryIsWrittenAgainShows) {
  const std::vector<int> want(kThreads, 1);
  EXPECT_EQ(wrong_runs(two_rounds_kernel<true>, kThreads, want), 0);
  EXPECT_GT(wrong_runs(two_rounds_kernel<false>, kThreads, want), 0);
}

TEST_F(SimtTest, WhatNeedsLanesInStepShows) {
  const auto is_right = [](const std::vector<int>& sums) { return sums[0] == 32; };
  const DeviceArray<int> out(32);
  const auto run = [&](auto* kernel) {
    EXPECT_EQ(launch({1, 32}, kernel, out.data()), cudaSuccess);
    return is_right(out.get());
  };
  EXPECT_EQ(count_wrong(10, [&] { return run(lockstep_kernel<true>); }), 0);
  EXPECT_GT(count_wrong(10, [&] { return run(lockstep_kernel<false>); }), 0);
}

__global__ void leave_kernel(int early) {
  if (static_cast<int>(threadIdx.x) < early) return;
  __syncthreads();
}
__global__ void barrier_of_kernel(int id, int threads) { barrier_sync(id, threads); }
__global__ void two_sizes_kernel() { barrier_sync(1, threadIdx.x < 32 ? 32 : 64); }
__global__ void wait_for_ever_kernel() {
  if (threadIdx.x < 32) barrier_sync(1, 64);
  if (threadIdx.x >= 32) barrier_sync(2, 64);
}

#define EXPECT_END(call, text)                              \
  EXPECT_DEATH(                                             \
      {                                                     \
        if ((call) != cudaSuccess) std::exit(0);            \
        cudaDeviceSynchronize();                            \
        std::exit(0);                                       \
      },                                                    \
      text)

TEST_F(SimtDeathTest, ThreadsThatLeaveBeforeABarrier) {
  EXPECT_END(launch({1, 64}, leave_kernel, 1), "left the kernel.*__syncthreads.*leave_kernel");
}
TEST_F(SimtDeathTest, BarriersThatDoNotFit) {
  EXPECT_END(launch({1, 64}, barrier_of_kernel, 16, 64), "barrier 16: there are 16");
  EXPECT_END(launch({1, 64}, barrier_of_kernel, 1, 96), "waits for 96 threads, the block has 64");
  EXPECT_END(launch({1, 64}, two_sizes_kernel), "barrier 1 is for .* threads here and for .* elsewhere");
}
TEST_F(SimtDeathTest, Deadlock) {
  EXPECT_END(launch({1, 64}, wait_for_ever_kernel), "deadlock: nothing can go on. Threads 0 to 63 wait in barrier.sync");
}

// --- Operations of a warp ----------------------------------------------------------------------------------------

__global__ void own_lane_kernel() { __syncwarp(threadIdx.x == 0 ? 0xfffffffeu : 0xffffffffu); }
__global__ void absent_lane_kernel() { __syncwarp(); }
__global__ void gone_lane_kernel() {
  if (threadIdx.x == 5) return;
  __syncthreads_count(1);
}
__global__ void gone_lane_in_warp_kernel(int* flag) {
  if (threadIdx.x == 5) {
    *flag = 1;
    return;
  }
  wait_until("the flag", [flag] { return *flag == 1; });
  __syncwarp();
}
__global__ void two_operations_kernel() {
  if (threadIdx.x < 16)
    __ballot_sync(0xffffffffu, 1);
  else
    __syncwarp();
}
__global__ void shuffle_of_others_kernel(unsigned* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 7u, 20);
}

TEST_F(SimtDeathTest, MasksThatDoNotHold) {
  EXPECT_END(launch({1, 32}, own_lane_kernel), "__syncwarp: the mask 0xfffffffe does not name its lane 0");
  EXPECT_END(launch({1, 16}, absent_lane_kernel), "names lane 16, which the block lacks");
  EXPECT_END(launch({1, 32}, two_operations_kernel), "other lanes of the warp with the same mask");
  EXPECT_END(launch({1, 32}, gone_lane_kernel), "left the kernel");
  int* flag = nullptr;
  ASSERT_EQ(cudaMalloc(&flag, 4), cudaSuccess);
  EXPECT_END(launch({1, 32}, gone_lane_in_warp_kernel, flag), "names lane 5, which has left the kernel");
}

TEST_F(SimtTest, AShuffleFromALaneThatTakesNoPartIsUndefined) {
  const DeviceArray<unsigned> out(16);
  ASSERT_EQ(launch({1, 32}, shuffle_of_others_kernel, out.data()), cudaSuccess);
  EXPECT_EQ(out.get(), std::vector<unsigned>(16, 0xffffffffu));
}

// --- Shared memory -----------------------------------------------------------------------------------------------

__global__ void read_shared_kernel(float* dynamic, float* fixed) {
  __shared__ float shared[32];
  dynamic[threadIdx.x] = reinterpret_cast<const float*>(current_block().dynamic_shared)[threadIdx.x];
  fixed[threadIdx.x + 32 * blockIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = 1;
}
__global__ void write_shared_kernel(int64_t at) { current_block().dynamic_shared[at] = 1; }

TEST_F(SimtTest, SharedMemoryIsNaNAtFirstInEveryBlock) {
  const DeviceArray<float> dynamic(32), fixed(96);
  for (int launches = 0; launches < 3; ++launches) {
    ASSERT_EQ(launch({3, 32, 128}, read_shared_kernel, dynamic.data(), fixed.data()), cudaSuccess);
    for (const float x : dynamic.get()) EXPECT_TRUE(std::isnan(x));
    for (const float x : fixed.get()) EXPECT_TRUE(std::isnan(x));
  }
}
TEST_F(SimtDeathTest, OutOfDynamicSharedMemory) {
  EXPECT_END(launch({1, 1, 100}, write_shared_kernel, 100), "has 100 bytes, and byte 100 was written");
  EXPECT_END(launch({1, 1, 100}, write_shared_kernel, 1024), "byte 1024 of 100 bytes of dynamic shared memory");
}

// --- Launches ----------------------------------------------------------------------------------------------------

__global__ void nothing_kernel() {}

TEST_F(SimtTest, LaunchesBeyondTheLimitsAreRefused) {
  const auto run = [](dim3 grid, dim3 threads, size_t shared_bytes = 0) {
    return launch({grid, threads, shared_bytes}, nothing_kernel);
  };
  EXPECT_EQ(run(1, 1), cudaSuccess);
  EXPECT_EQ(run({1, 65535, 1}, 1), cudaSuccess);
  for (const dim3 grid : {dim3(0), dim3(1, 65536), dim3(1, 1, 65536), dim3(0x80000000u)})
    EXPECT_EQ(run(grid, 1), cudaErrorInvalidConfiguration);
  for (const dim3 threads : {dim3(0), dim3(1025), dim3(32, 33), dim3(1, 1, 65)})
    EXPECT_EQ(run(1, threads), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(run(1, 1, 48 * 1024), cudaSuccess);
  EXPECT_EQ(run(1, 1, 48 * 1024 + 1), cudaErrorInvalidValue);
  const auto allow = [](int bytes) {
    return cudaFuncSetAttribute(nothing_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  EXPECT_EQ(allow(227 * 1024 + 1), cudaErrorInvalidValue);
  EXPECT_EQ(allow(227 * 1024), cudaSuccess);
  EXPECT_EQ(run(1, 1, 227 * 1024), cudaSuccess);
}

// --- Device memory -----------------------------------------------------------------------------------------------

__global__ void read_kernel(const float* from, int64_t at, float* out) { *out = from[at]; }
__global__ void write_kernel(float* to, int64_t at) { to[at] = 1; }

TEST_F(SimtTest, MemoryIsNaNAtFirst) {
  const DeviceArray<float> memory(100);
  for (const float x : memory.get()) EXPECT_TRUE(std::isnan(x));
}

// What is read within 256 bytes behind the end is a guard's, a NaN of bf16; further off the program stops.
TEST_F(SimtDeathTest, OutOfBounds) {
  const DeviceArray<float> memory(100), out(1);
  ASSERT_EQ(launch({}, read_kernel, memory.data(), 100, out.data()), cudaSuccess);
  uint32_t bits;
  const float read = out.get()[0];
  std::memcpy(&bits, &read, 4);
  EXPECT_EQ(bits, 0xffa5ffa5u);
  EXPECT_END(launch({}, read_kernel, memory.data(), 128, out.data()),
             "illegal access: 112 bytes behind the end of 400 bytes of device 0.*read_kernel");
  EXPECT_END(launch({}, write_kernel, memory.data(), 100), "400 bytes of device 0 were written outside: byte 400");
  EXPECT_END(launch({}, write_kernel, memory.data(), -1), "400 bytes of device 0 were written outside: byte -4");
  EXPECT_END(launch({}, write_kernel, memory.data(), 1 << 16), "illegal access");
}

TEST_F(SimtDeathTest, AfterItsEnd) {
  float* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 400), cudaSuccess);
  ASSERT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  EXPECT_END(launch({}, write_kernel, memory, 3), "illegal access: byte 12 of 400 bytes of device 0 that are freed");
  float* other = nullptr;
  ASSERT_EQ(cudaMalloc(&other, 400), cudaSuccess);
  EXPECT_NE(memory, other);  // so that it stays caught
  ASSERT_EQ(cudaFree(other), cudaSuccess);
}

TEST_F(SimtDeathTest, ByTheHost) {
  const DeviceArray<float> memory(4);
  EXPECT_DEATH(memory.data()[1] = 1, "byte 4 of 16 bytes of device 0 that the host may not touch.*by the host");
  float on_host = 0;
  EXPECT_END(launch({}, write_kernel, memory.data(), &on_host - memory.data() + (int64_t{1} << 45)), "illegal access");
}

}  // namespace
}  // namespace soft_gpu
