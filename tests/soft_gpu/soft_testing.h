// What tests of the software GPU share: kernels of their own, launched as any.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

namespace soft_gpu {

// A device of its own for each test would cost more than it shows: all use the first, and wait for it at their end.
class SoftGpuTest : public testing::Test {
 protected:
  void SetUp() override { EXPECT_EQ(cudaSetDevice(0), cudaSuccess); }
  void TearDown() override {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    cudaGetLastError();
  }
};
// Those whose tests end the program: run anew for each, since the parent has threads.
class SoftGpuDeathTest : public SoftGpuTest {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    SoftGpuTest::SetUp();
  }
};

struct LaunchShape {
  dim3 grid = 1, threads = 1;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};
template <typename... Parameters, typename... Args>
cudaError_t launch(const LaunchShape& shape, void (*kernel)(Parameters...), Args... args) {
  cudaLaunchConfig_t config;
  config.gridDim = shape.grid;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  return cudaLaunchKernelEx(&config, kernel, Parameters(args)...);
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) { EXPECT_EQ(cudaMalloc(&data_, bytes()), cudaSuccess); }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { EXPECT_EQ(cudaFree(data_), cudaSuccess); }

  T* data() const { return data_; }
  size_t bytes() const { return count_ * sizeof(T); }
  void set(T value) const {
    const std::vector<T> all(count_, value);
    EXPECT_EQ(cudaMemcpy(data_, all.data(), bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  // Waits for all of the device's work.
  std::vector<T> get() const {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<T> all(count_);
    EXPECT_EQ(cudaMemcpy(all.data(), data_, bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    return all;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

struct Stream {
  cudaStream_t get = nullptr;
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&get, cudaStreamNonBlocking), cudaSuccess); }
  Stream(const Stream&) = delete;
  ~Stream() { EXPECT_EQ(cudaStreamDestroy(get), cudaSuccess); }
};
struct Event {
  cudaEvent_t get = nullptr;
  Event() { EXPECT_EQ(cudaEventCreateWithFlags(&get, cudaEventDisableTiming), cudaSuccess); }
  Event(const Event&) = delete;
  ~Event() { EXPECT_EQ(cudaEventDestroy(get), cudaSuccess); }
};

// How often of `tries` times `is_right` is false: what goes wrong in some orders only.
template <typename IsRight>
int count_wrong(int tries, const IsRight& is_right) {
  int wrong = 0;
  for (int i = 0; i < tries; ++i) wrong += !is_right();
  return wrong;
}

}  // namespace soft_gpu
