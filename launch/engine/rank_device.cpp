#include "launch/engine/rank_device.h"

#include "core/base/error.h"
#include "core/runtime/thread_world.h"
#include "kernels/cpu/register.h"
#include "kernels/cpu/threads.h"
#include "kernels/cuda/plugin/open.h"
#include "launch/engine/rank_threads.h"

namespace tessera {
namespace {

bool is_gpu(const config::DeviceConfig& device) { return device.backend == config::DeviceBackend::cuda; }

cuda::Transport transport_of(config::DeviceTransport transport) {
  switch (transport) {
    case config::DeviceTransport::nccl: return cuda::Transport::nccl;
    case config::DeviceTransport::staged: return cuda::Transport::staged;
    case config::DeviceTransport::automatic: break;
  }
  return cuda::Transport::automatic;
}

}  // namespace

const KernelTable& kernel_table(const config::DeviceConfig& device) {
  if (is_gpu(device)) return cuda::open_plugin().kernels();
  static const KernelTable kCpu = cpu_kernel_table();
  return kCpu;
}

std::string default_machine_profile(const config::DeviceConfig& device) {
  return is_gpu(device) ? "h100-nvlink-ib" : "cpu-shm";
}

RankDevice::RankDevice(const config::DeviceConfig& config, int64_t threads, World& world) : world_(world) {
  if (is_gpu(config))
    open_gpu(config);  // first: it may keep the process to fewer CPUs
  else
    backend_ = create_cpu_backend(kernel_table(config));
  cpu::set_threads(rank_threads(threads, world));
}

RankDevice::~RankDevice() {
  device_world_.reset();  // works on the backend's memory
}

void RankDevice::open_gpu(const config::DeviceConfig& config) {
  const cuda::Plugin& plugin = cuda::open_plugin();
  const std::vector<cuda::DeviceInfo> devices = plugin.devices();
  if (devices.empty())
    throw_user_error("device.backend = cuda, but no CUDA device is visible on ", world_.host_name(),
                     " (nvidia-smi lists them; CUDA_VISIBLE_DEVICES may hide them); device.backend = cpu needs none");
  device_ = plugin.place(world_);
  const cuda::DeviceInfo& info = devices[static_cast<size_t>(device_)];
  multiprocessors_ = info.multiprocessors;
  capability_ = 10 * info.major + info.minor;
  name_ = cat("GPU ", device_, " (", info.name, ") of ", world_.host_name());
  uuid_ = info.uuid;
  backend_ = plugin.create_backend({.device = device_, .tf32 = config.tf32, .capture = config.capture,
                                    .autotune = config.autotune && world_.rank() == 0});
  if (world_.size() > 1) device_world_ = plugin.create_world(world_, *backend_, transport_of(config.transport));
  description_ = plugin.placement(world_, device_);
  if (device_world_)
    description_ += cat("communication: ", plugin.describe_transport(*device_world_));
  else
    description_.pop_back();  // the end of the last line
}

void RankDevice::check_products(const config::TrainConfig& train) const {
  constexpr int kLeast = 89;
  if (train.matmul_dtype != config::MatmulDType::fp8 || device_ < 0 || capability_ >= kLeast) return;
  throw_config_error("train.matmul_dtype = fp8 wants a GPU of compute capability 8.9 or more (Ada, Hopper, later); ",
                     name_, " has ", capability_ / 10, ".", capability_ % 10, "; leave train.matmul_dtype out");
}

std::optional<DeviceMemory> RankDevice::memory() const {
  if (device_ < 0) return std::nullopt;
  return DeviceMemory{name_, uuid_, cuda::open_plugin().free_bytes(*backend_)};
}

std::string RankDevice::kernel_choices() {
  return device_ < 0 ? std::string() : cuda::open_plugin().choices(*backend_);
}

void RankDevice::adopt_kernel_choices(const std::string& text) {
  if (device_ >= 0 && !text.empty()) cuda::open_plugin().adopt_choices(*backend_, text);
}

void RankDevice::share_kernel_choices() {
  if (device_ < 0 || world_.size() == 1) return;
  const std::string chosen = world_.all_gather_text(world_.rank() == 0 ? kernel_choices() : "")[0];
  if (world_.rank() != 0) adopt_kernel_choices(chosen);
}

PeakProbe RankDevice::peak_probe(DType dtype) {
  // The processor computes bf16 in f32; 768 rows fit its caches.
  if (backend_->is_host()) return {*backend_, DType::f32, 768};
  // Large enough for all multiprocessors.
  return {*backend_, dtype, std::min(64 * multiprocessors_, 8192)};
}

}  // namespace tessera
