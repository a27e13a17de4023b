#include "kernels/cuda/backend/device_info.h"

#include <algorithm>
#include <cctype>
#include <fstream>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {
namespace {

std::string hex_of(const cudaUUID_t& uuid) {
  std::string text;
  for (const char byte : uuid.bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[(static_cast<unsigned char>(byte) >> 4) & 15];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}

int numa_node_of(std::string bus) {
  std::transform(bus.begin(), bus.end(), bus.begin(), [](unsigned char c) { return std::tolower(c); });
  std::ifstream file("/sys/bus/pci/devices/" + bus + "/numa_node");
  int node = -1;
  file >> node;
  return file ? node : -1;
}

DeviceInfo describe(int index) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  DeviceInfo info;
  info.index = index;
  info.name = properties.name;
  info.uuid = hex_of(properties.uuid);
  char bus[32] = {};
  check(cudaDeviceGetPCIBusId(bus, sizeof(bus), index), "cudaDeviceGetPCIBusId");
  info.pci_bus = bus;
  info.major = properties.major;
  info.minor = properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.numa_node = numa_node_of(info.pci_bus);
  info.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  return info;
}

}  // namespace

std::vector<DeviceInfo> list_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice) return {};
  // The runtime cannot tell a driver that is absent from one that is too old: its version says it.
  int driver = 0;
  if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
    throw_user_error("CUDA: there is no driver on this machine (libcuda.so.1 was not found). NVIDIA's driver 580 or later "
                     "is needed to compute on a GPU; device.backend = cpu needs none");
  check(error, "looking for devices");
  std::vector<DeviceInfo> devices;
  for (int index = 0; index < count; ++index) devices.push_back(describe(index));
  return devices;
}

}  // namespace tessera::cuda
