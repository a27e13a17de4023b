#include "kernels/cuda/matmul/matmul_timing.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/matmul/noise.h"

namespace tessera::cuda {
namespace {

constexpr int kRounds = 5;                  // of which the fastest counts
constexpr float kRoundMilliseconds = 2.0f;  // of work in each, about
constexpr float kClearly = 0.98f;           // less is noise, and the library's order is kept

class DeviceMemory {
 public:
  explicit DeviceMemory(int64_t bytes) {
    if (cudaMalloc(&memory_, static_cast<size_t>(bytes)) != cudaSuccess) {
      memory_ = nullptr;
      (void)cudaGetLastError();  // the next call must not see it
    }
  }
  ~DeviceMemory() { (void)cudaFree(memory_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "creating an event"); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

void fill_with_noise(DType dtype, const DeviceMemory& memory, int64_t bytes, cudaStream_t stream) {
  const auto fill = [&](uint64_t one, uint64_t mantissa) {
    fill_noise(memory.get(), size_of(dtype), one, mantissa, bytes / size_of(dtype), stream);
  };
  switch (dtype) {
    case DType::f8e4m3fn:  // two at a time
    case DType::f8e5m2:
      return fill_noise(memory.get(), 2, 0x3838, 0x0303, bytes / 2, stream);
    case DType::bf16:
      return fill(0x3f80, 0x7f);
    case DType::f16:
      return fill(0x3c00, 0x3ff);
    case DType::f32:
      return fill(0x3f800000, 0x7fffff);
    default:
      return fill(0x3ff0000000000000, 0xfffffffffffff);
  }
}

// What one product is run on.
struct Bench {
  const MatmulPlan& plan;
  MatmulMemory memory;
  void* workspace;
  cudaStream_t stream;
  Event begin, end;

  // Milliseconds of `times` products.
  float measure(const MatmulAlgorithm& algorithm, int times) {
    check(cudaEventRecord(begin.get(), stream), "an event");
    for (int i = 0; i < times; ++i) plan.run_with(algorithm, memory, workspace, stream);
    check(cudaEventRecord(end.get(), stream), "an event");
    check(cudaEventSynchronize(end.get()), "waiting for the device");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "reading an event");
    return milliseconds;
  }

  // Milliseconds of one product: the fastest of several rounds, after one that loads the code.
  float time_of(const MatmulAlgorithm& algorithm) {
    measure(algorithm, 1);
    const float once = std::max(measure(algorithm, 1), 1e-3f);
    const int times = std::clamp(static_cast<int>(kRoundMilliseconds / once), 1, 50);
    float best = std::numeric_limits<float>::infinity();
    for (int round = 0; round < kRounds; ++round)
      best = std::min(best, measure(algorithm, times) / static_cast<float>(times));
    return best;
  }
};

}  // namespace

MatmulAlgorithm fastest(const MatmulPlan& plan, const std::vector<MatmulAlgorithm>& candidates, void* workspace,
                        cudaStream_t stream) {
  const MatmulProblem& problem = plan.problem();
  const MatmulBytes bytes = bytes_of(problem);
  const DeviceMemory left(bytes.left), right(bytes.right), result(bytes.result), bias(bytes.bias), aux(bytes.aux),
      scale(problem.scaled ? int64_t{sizeof(float)} : 0);
  if (!left.get() || !right.get() || !result.get() || (bytes.bias > 0 && !bias.get()) ||
      (bytes.aux > 0 && !aux.get()) || (problem.scaled && !scale.get())) {
    log_warning("warning: the product ", text_of(problem), " was not timed: there is no room for ",
                human_bytes(static_cast<double>(bytes.left + bytes.right + bytes.result + bytes.bias + bytes.aux)), " beside the program's buffers");
    return candidates.front();
  }
  fill_with_noise(problem.left_type, left, bytes.left, stream);
  fill_with_noise(problem.right_type, right, bytes.right, stream);
  fill_with_noise(problem.output, result, bytes.result, stream);
  fill_with_noise(problem.output, bias, bytes.bias, stream);
  fill_with_noise(problem.output, aux, bytes.aux, stream);
  if (problem.scaled) fill_with_noise(DType::f32, scale, sizeof(float), stream);
  Bench bench{plan, {left.get(), right.get(), result.get(), bias.get(), aux.get(), scale.get(), scale.get()},
              workspace, stream, {}, {}};
  size_t best = 0;
  std::vector<float> times;
  for (const MatmulAlgorithm& candidate : candidates) {
    times.push_back(bench.time_of(candidate));
    if (times.back() < kClearly * times[best]) best = times.size() - 1;
  }
  log_debug("product ", text_of(problem), ": ", join(times, ", "), " ms, number ", best, " was chosen");
  return candidates[best];
}

}  // namespace tessera::cuda
