// CUDA's runtime: errors and devices.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/soft_gpu/engine.h"
#include "tests/soft_gpu/memory.h"

namespace soft_gpu {
namespace {
thread_local int chosen_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

int number_from(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}
// TESSERA_SOFT_GPU_COMPUTE=80: the compute capability; 90 if unset.
int compute_capability() { return number_from("TESSERA_SOFT_GPU_COMPUTE", 90); }
}  // namespace

int device_count() { return std::min(std::max(number_from("TESSERA_SOFT_GPU_DEVICES", 1), 0), 16); }
int current_device() { return chosen_device; }

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace soft_gpu

using namespace soft_gpu;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define SOFT_GPU_NAME(NAME, VALUE, TEXT) \
  case NAME:                             \
    return #NAME;
    SOFT_GPU_ERRORS(SOFT_GPU_NAME)
#undef SOFT_GPU_NAME
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define SOFT_GPU_TEXT(NAME, VALUE, TEXT) \
  case NAME:                             \
    return TEXT;
    SOFT_GPU_ERRORS(SOFT_GPU_TEXT)
#undef SOFT_GPU_TEXT
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return remember(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = chosen_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return remember(cudaErrorInvalidDevice);
  chosen_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= device_count()) return remember(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "Software GPU");  // all of one model
  std::memcpy(properties->uuid.bytes, "tessera-soft-gpu", 16);
  properties->uuid.bytes[15] = static_cast<char>(device);
  properties->totalGlobalMem = total_memory();
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = (compute_capability() >= 90 ? 227 : 163) * 1024;
  properties->sharedMemPerMultiprocessor = (compute_capability() >= 90 ? 228 : 164) * 1024;
  properties->totalConstMem = 64 * 1024;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 0x7fffffff;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->major = compute_capability() / 10;
  properties->minor = compute_capability() % 10;
  properties->multiProcessorCount = 3;  // few, so that small tests loop as large problems do
  properties->concurrentKernels = properties->unifiedAddressing = properties->cooperativeLaunch = 1;
  properties->asyncEngineCount = 2;
  properties->l2CacheSize = 1 << 20;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->maxBlocksPerMultiProcessor = 32;
  properties->memoryBusWidth = 64;
  properties->pciBusID = device + 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = properties.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = static_cast<int>(properties.sharedMemPerBlock); break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; break;
    case cudaDevAttrL2CacheSize: *value = properties.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = properties.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = properties.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrConcurrentManagedAccess: *value = 0; break;
    case cudaDevAttrCooperativeLaunch: *value = properties.cooperativeLaunch; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(properties.sharedMemPerBlockOptin); break;
    default: return remember(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (device < 0 || device >= device_count()) return remember(cudaErrorInvalidDevice);
  if (length < 13) return remember(cudaErrorInvalidValue);
  std::snprintf(text, static_cast<size_t>(length), "FFFF:%02X:00.0", device + 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  if (device < 0 || device >= device_count() || peer < 0 || peer >= device_count())
    return remember(cudaErrorInvalidDevice);
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return remember(cudaErrorNotSupported); }

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = total_memory();
  *free = *total - std::min(*total, used_memory(chosen_device));
  return cudaSuccess;
}
