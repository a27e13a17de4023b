// Kernels compiled at run time: what is wrong with them is said, and what they do wrong is caught as elsewhere.
#include <nvrtc.h>

#include <string>

#include "tests/soft_gpu/soft_testing.h"

namespace soft_gpu {
namespace {

using NvrtcTest = SoftGpuTest;
using NvrtcDeathTest = SoftGpuDeathTest;

struct Compiled {
  nvrtcResult result;
  std::string log, image;
};
Compiled compile(const std::string& source, std::vector<const char*> options = {}) {
  nvrtcProgram program;
  EXPECT_EQ(nvrtcCreateProgram(&program, source.c_str(), "test.cu", 0, nullptr, nullptr), NVRTC_SUCCESS);
  Compiled made{nvrtcCompileProgram(program, static_cast<int>(options.size()), options.data()), "", ""};
  size_t bytes;
  nvrtcGetProgramLogSize(program, &bytes);
  made.log.resize(bytes);
  nvrtcGetProgramLog(program, made.log.data());
  nvrtcGetCUBINSize(program, &bytes);
  made.image.resize(bytes);
  nvrtcGetCUBIN(program, made.image.data());
  EXPECT_EQ(nvrtcDestroyProgram(&program), NVRTC_SUCCESS);
  return made;
}

constexpr const char* kAdd = R"(
extern "C" __global__ void __launch_bounds__(256) add_one(float* x, long n) {
  const long i = blockIdx.x * 256 + threadIdx.x;
  if (i < n) x[i] += 1;
}
)";

struct Library {
  cudaLibrary_t get = nullptr;
  explicit Library(const std::string& image) {
    EXPECT_EQ(cudaLibraryLoadData(&get, image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0), cudaSuccess);
  }
  Library(const Library&) = delete;
  ~Library() { cudaLibraryUnload(get); }
};
cudaError_t launch_add_one(cudaLibrary_t library, float* x, long n) {
  cudaKernel_t kernel;
  EXPECT_EQ(cudaLibraryGetKernel(&kernel, library, "add_one"), cudaSuccess);
  void* arguments[] = {&x, &n};
  return cudaLaunchKernel(kernel, 1, 256, arguments, 0, nullptr);
}

TEST_F(NvrtcTest, WhatIsWrongIsInTheLog) {
  const Compiled wrong = compile("extern \"C\" __global__ void k(float* x) { x[0] = missing; }");
  EXPECT_EQ(wrong.result, NVRTC_ERROR_COMPILATION);
  EXPECT_NE(wrong.log.find("missing"), std::string::npos) << wrong.log;
  EXPECT_EQ(compile(kAdd, {"-no such option"}).result, NVRTC_ERROR_INVALID_OPTION);
}

TEST_F(NvrtcTest, KernelsRun) {
  const Compiled made = compile(kAdd, {"--gpu-architecture=sm_90"});
  ASSERT_EQ(made.result, NVRTC_SUCCESS) << made.log;
  const Library library(made.image);
  const DeviceArray<float> x(100);
  x.set(1);
  ASSERT_EQ(launch_add_one(library.get, x.data(), 100), cudaSuccess);
  EXPECT_EQ(x.get(), std::vector<float>(100, 2));
  cudaKernel_t none;
  EXPECT_EQ(cudaLibraryGetKernel(&none, library.get, "add_two"), cudaErrorSymbolNotFound);
}

TEST_F(NvrtcTest, WhatIsNoImageIsRefused) {
  cudaLibrary_t library;
  EXPECT_EQ(cudaLibraryLoadData(&library, "something", nullptr, nullptr, 0, nullptr, nullptr, 0),
            cudaErrorInvalidKernelImage);
  EXPECT_EQ(cudaLaunchKernel(&library, 1, 1, nullptr, 0, nullptr), cudaErrorInvalidDeviceFunction);
}

TEST_F(NvrtcDeathTest, OutOfBounds) {
  const Library library(compile(kAdd).image);
  const DeviceArray<float> x(100);
  EXPECT_DEATH(
      {
        launch_add_one(library.get, x.data(), 256);
        cudaDeviceSynchronize();
      },
      "behind the end of 400 bytes of device 0.*add_one|written outside");
}

}  // namespace
}  // namespace soft_gpu
