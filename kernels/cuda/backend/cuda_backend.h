// Memory, streams and recordings of one GPU.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/backend/context.h"
#include "kernels/cuda/backend/event_clock.h"
#include "kernels/cuda/plugin/plugin.h"

namespace tessera::cuda {

// For one rank: its methods are called by one thread at a time.
class CudaBackend final : public Backend {
 public:
  // `kernels` must outlive the backend. Throws UserError where the device cannot be used.
  CudaBackend(const BackendOptions& options, const KernelTable& kernels);
  ~CudaBackend() override;

  const std::string& name() const override;
  std::string device_name() const override;
  const KernelTable& kernels() const override { return kernels_; }
  void* stream() override { return &context_; }
  std::byte* allocate(int64_t bytes) override;
  int64_t free_bytes() const;  // on the device, now
  void release(std::byte* memory) noexcept override;
  void copy_to_device(void* device, const void* host, int64_t bytes) override;
  void copy_to_host(void* host, const void* device, int64_t bytes) override;
  void copy(void* to, const void* from, int64_t bytes) override;
  void copy_rows(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t width,
                 int64_t rows) override;
  void fill(void* to, const void* element, int64_t element_bytes, int64_t count) override;
  void synchronize() override;
  void finish_preparing() override;
  bool can_capture() const override { return options_.capture; }
  void begin_capture() override;
  int end_capture() override;
  void replay(int recording) override;
  void drop(int recording) override;
  void begin_times() override;
  int mark_time(void* stream) override;
  double time_of(int mark) override;
  bool has_ranges() const override { return true; }
  void begin_range(const char* name) override;
  void end_range() noexcept override;

  Context& context() { return context_; }
  const DeviceInfo& device() const { return device_; }
  // Called whenever the host has waited for the device, which a communication that was given up lets go on with
  // wrong data: `verify` then throws. Empty: nobody asks.
  void verify_after_waits(std::function<void()> verify) { verify_ = std::move(verify); }

 private:
  void use() const;  // makes the device the calling thread's

  BackendOptions options_;
  const KernelTable& kernels_;
  DeviceInfo device_;
  Context context_;
  std::unique_ptr<MatmulLibrary> matmul_;
  std::unique_ptr<KernelCompiler> compiler_;
  std::vector<cudaGraphExec_t> recordings_;  // by number; null: dropped
  std::function<void()> verify_;
  std::unique_ptr<EventClock> clock_;  // made by the first begin_times
};

}  // namespace tessera::cuda
