// The plugin's entry point.
#include "kernels/cuda/plugin/plugin.h"

#include <cublasLt.h>
#include <nvrtc.h>

#include "core/base/strings.h"
#include "core/base/version.h"
#include "kernels/cuda/backend/cuda_backend.h"
#include "kernels/cuda/backend/device_info.h"
#include "kernels/cuda/backend/placement.h"
#include "kernels/cuda/comm/cuda_world.h"
#include "kernels/cuda/matmul/matmul_library.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

// 13000 -> "13.0"
std::string dotted(int version) { return cat(version / 1000, ".", version % 1000 / 10); }

class CudaPlugin final : public Plugin {
 public:
  CudaPlugin() { register_cuda_kernels(kernels_); }

  std::vector<std::string> versions() const override {
    int runtime = 0, driver = 0, major = 0, minor = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    const bool has_driver = cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0;
    (void)nvrtcVersion(&major, &minor);
    return {cat("CUDA runtime ", dotted(runtime)),
            has_driver ? cat("driver for CUDA ", dotted(driver)) : "no driver (libcuda.so.1)",
            cat("cuBLASLt ", cublasLtGetVersion()), cat("NVRTC ", major, ".", minor), nccl_version()};
  }
  std::vector<DeviceInfo> devices() const override { return list_devices(); }
  const KernelTable& kernels() const override { return kernels_; }
  std::unique_ptr<Backend> create_backend(const BackendOptions& options) const override {
    return std::make_unique<CudaBackend>(options, kernels_);
  }
  int64_t free_bytes(const Backend& backend) const override {
    return static_cast<const CudaBackend&>(backend).free_bytes();
  }
  std::unique_ptr<World> create_world(World& inner, Backend& backend, Transport transport) const override {
    return create_cuda_world(inner, static_cast<CudaBackend&>(backend), transport);
  }
  std::string choices(Backend& backend) const override {
    return static_cast<CudaBackend&>(backend).context().matmul->choices();
  }
  void adopt_choices(Backend& backend, std::string_view text) const override {
    static_cast<CudaBackend&>(backend).context().matmul->adopt_choices(text);
  }
  std::string describe_transport(const World& world) const override { return transport_of(world); }
  int place(World& world) const override { return place_rank(world); }
  std::string placement(World& world, int device) const override { return placement_table(world, device); }

 private:
  KernelTable kernels_;
};

}  // namespace
}  // namespace tessera::cuda

extern "C" {
__attribute__((visibility("default"))) const char* tessera_cuda_build =
    tessera::version().data();
__attribute__((visibility("default"))) const tessera::cuda::Plugin* tessera_cuda_plugin() {
  static const tessera::cuda::CudaPlugin kPlugin;
  return &kPlugin;
}
}
