// What a rank computes on: the processor, or a GPU behind the CUDA plugin.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/runtime/backend.h"
#include "core/runtime/communicator.h"
#include "launch/config/job_config.h"
#include "launch/engine/peak.h"

namespace tessera {

// The kernels of a kind of device; lives as long as the program. Throws UserError where the CUDA plugin
// cannot be opened; a device itself is not needed.
const KernelTable& kernel_table(const config::DeviceConfig& device);

// The machine model that stands for it where none is named.
std::string default_machine_profile(const config::DeviceConfig& device);

struct DeviceMemory {
  std::string name;        // "GPU 0 (NVIDIA H200) of HOST"
  std::string uuid;        // the same for all ranks that share it
  int64_t free_bytes = 0;  // now
};

class RankDevice {
 public:
  // Collective over `world`, which must outlive it. `threads` of the processor compute (0: this rank's share).
  // Throws UserError where there is no GPU for this rank.
  RankDevice(const config::DeviceConfig& config, int64_t threads, World& world);
  ~RankDevice();

  // Throws ConfigError where the device lacks what the job's products are made of: fp8 wants compute capability 8.9.
  void check_products(const config::TrainConfig& train) const;

  Backend& backend() { return *backend_; }
  // Whose communicators work on the device's memory.
  World& world() { return device_world_ ? *device_world_ : world_; }
  // Of the device; nullopt on the processor, whose memory the system pages.
  std::optional<DeviceMemory> memory() const;
  // A probe of what the device can do in products that a job of `dtype` is made of.
  PeakProbe peak_probe(DType dtype);

  // Which algorithms the kernels' libraries use, as text to be kept with a checkpoint; "" on the processor, which has
  // no choice. Replicas that choose differently drift apart, so rank 0's hold for all.
  std::string kernel_choices();
  // Takes over what another run chose, for what is prepared from now on. "" is none.
  void adopt_kernel_choices(const std::string& text);
  // Rank 0's choices become every rank's. Collective; after all was prepared, before the first run.
  void share_kernel_choices();

  // For the beginning of a run: a line a rank, and how they talk. "" on the processor. The same on all ranks.
  const std::string& description() const { return description_; }

 private:
  void open_gpu(const config::DeviceConfig& config);

  World& world_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<World> device_world_;
  int device_ = -1;  // of the GPU
  std::string name_, uuid_;  // of the GPU, as DeviceMemory has them
  int multiprocessors_ = 0;
  int capability_ = 0;  // 10 major + minor
  std::string description_;
};

}  // namespace tessera
