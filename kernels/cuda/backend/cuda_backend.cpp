#include "kernels/cuda/backend/cuda_backend.h"

#include <cstring>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/backend/device_info.h"
#include "kernels/cuda/backend/fill.h"
#include "kernels/cuda/backend/ranges.h"
#include "kernels/cuda/fusion/kernel_compiler.h"
#include "kernels/cuda/matmul/matmul_library.h"

namespace tessera::cuda {
namespace {

DeviceInfo find_device(int wanted) {
  const std::vector<DeviceInfo> devices = list_devices();
  if (wanted < 0 || static_cast<size_t>(wanted) >= devices.size())
    throw_user_error("CUDA: device ", wanted, " was asked for, and ", devices.size(), " ",
                     devices.size() == 1 ? "is" : "are", " visible",
                     devices.empty() ? " (nvidia-smi lists those of the machine; CUDA_VISIBLE_DEVICES may hide them)"
                                     : "");
  return devices[static_cast<size_t>(wanted)];
}

}  // namespace

CudaBackend::CudaBackend(const BackendOptions& options, const KernelTable& kernels)
    : options_(options), kernels_(kernels), device_(find_device(options.device)) {
  if (device_.major < 8)
    throw_user_error("CUDA: ", device_.name, " has compute capability ", device_.major, ".", device_.minor,
                     ", the kernels need 8.0 or later");
  use();
  context_.device = options_.device;
  context_.multiprocessors = device_.multiprocessors;
  context_.major = device_.major;
  context_.minor = device_.minor;
  context_.tf32 = options_.tf32;
  // Not the default stream, with which everything else would be ordered.
  check(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "creating a stream");
  matmul_ = std::make_unique<MatmulLibrary>(context_, device_.name, options_.autotune);
  context_.matmul = matmul_.get();
  compiler_ = std::make_unique<KernelCompiler>(context_, options_.cache_folder);
  context_.compiler = compiler_.get();
}

CudaBackend::~CudaBackend() {
  if (cudaSetDevice(options_.device) != cudaSuccess) return;
  cudaStreamSynchronize(context_.stream);
  for (cudaGraphExec_t recording : recordings_)
    if (recording) cudaGraphExecDestroy(recording);
  clock_.reset();
  compiler_.reset();
  matmul_.reset();
  cudaStreamDestroy(context_.stream);
}

const std::string& CudaBackend::name() const {
  static const std::string kName = "cuda";
  return kName;
}

std::string CudaBackend::device_name() const { return cat("GPU ", options_.device, ", ", device_.name); }

void CudaBackend::use() const { check(cudaSetDevice(options_.device), "cudaSetDevice"); }

std::byte* CudaBackend::allocate(int64_t bytes) {
  use();
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
  if (error != cudaErrorMemoryAllocation) {
    check(error, "cudaMalloc");
    return static_cast<std::byte*>(memory);
  }
  (void)cudaGetLastError();  // the next call must not see it
  size_t free = 0, total = 0;
  (void)cudaMemGetInfo(&free, &total);
  throw_user_error("out of memory on GPU ", options_.device, " (", device_.name, "): ",
                   human_bytes(static_cast<double>(bytes)), " are needed in one piece, ",
                   human_bytes(static_cast<double>(free)), " of ", human_bytes(static_cast<double>(total)),
                   " are free. A smaller train.microbatch, train.remat = full, or sharding over more devices needs "
                   "less; `tessera plan` shows what takes how much");
}

int64_t CudaBackend::free_bytes() const {
  use();
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

void CudaBackend::release(std::byte* memory) noexcept {
  // Waits for the device: nothing that was submitted still uses the memory.
  if (cudaSetDevice(options_.device) == cudaSuccess) cudaFree(memory);
}

void CudaBackend::copy_to_device(void* device, const void* host, int64_t bytes) {
  use();
  // From pageable memory this returns when the host's bytes have been taken.
  check(cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, context_.stream),
        "a copy to the device");
}

void CudaBackend::copy_to_host(void* host, const void* device, int64_t bytes) {
  use();
  check(cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, context_.stream),
        "a copy to the host");
  synchronize();
}

void CudaBackend::copy(void* to, const void* from, int64_t bytes) {
  if (to == from || bytes == 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, context_.stream),
        "a copy on the device");
}

void CudaBackend::copy_rows(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t width,
                            int64_t rows) {
  if (width == 0 || rows == 0) return;
  check(cudaMemcpy2DAsync(to, static_cast<size_t>(to_pitch), from, static_cast<size_t>(from_pitch),
                          static_cast<size_t>(width), static_cast<size_t>(rows), cudaMemcpyDeviceToDevice,
                          context_.stream),
        "a copy of rows on the device");
}

void CudaBackend::fill(void* to, const void* element, int64_t element_bytes, int64_t count) {
  use();
  uint64_t bits = 0;
  std::memcpy(&bits, element, static_cast<size_t>(element_bytes));
  cuda::fill(to, bits, element_bytes, count, context_.stream);
}

void CudaBackend::synchronize() {
  use();
  check(cudaStreamSynchronize(context_.stream), "waiting for the device");
  if (verify_) verify_();
}

void CudaBackend::finish_preparing() {
  use();
  compiler_->compile_pending();
}

void CudaBackend::begin_capture() {
  use();
  // Other ranks may be threads of this process, and allocate meanwhile.
  check(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal), "beginning a capture");
}

int CudaBackend::end_capture() {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(context_.stream, &graph), "ending a capture");
  cudaGraphExec_t recording = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&recording, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "instantiating a graph");
  recordings_.push_back(recording);
  return static_cast<int>(recordings_.size()) - 1;
}

void CudaBackend::drop(int recording) {
  cudaGraphExec_t& dropped = recordings_[static_cast<size_t>(recording)];
  if (dropped) (void)cudaGraphExecDestroy(dropped);  // called by destructors
  dropped = nullptr;
}

void CudaBackend::replay(int recording) {
  check(cudaGraphLaunch(recordings_[static_cast<size_t>(recording)], context_.stream), "replaying a graph");
}

void CudaBackend::begin_times() {
  use();
  if (!clock_) clock_ = std::make_unique<EventClock>();
  clock_->restart(context_.stream);
}

int CudaBackend::mark_time(void* stream) {
  TESSERA_CHECK(clock_ != nullptr, "mark_time without begin_times");
  return clock_->mark(stream ? static_cast<cudaStream_t>(stream) : context_.stream);
}

double CudaBackend::time_of(int mark) {
  use();
  return clock_->time_of(mark);
}

void CudaBackend::begin_range(const char* name) { cuda::begin_range(name); }
void CudaBackend::end_range() noexcept { cuda::end_range(); }

}  // namespace tessera::cuda
