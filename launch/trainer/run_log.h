// All that a run tells: progress, metrics.jsonl, TensorBoard, the per-rank logs. Rank 0 speaks; the
// other ranks write only their own log file.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/base/strings.h"
#include "core/runtime/communicator.h"
#include "launch/engine/compiled_job.h"
#include "launch/metrics/event_file.h"
#include "launch/metrics/metrics_log.h"
#include "launch/metrics/progress.h"

namespace tessera {

struct TrainSummary;

// What the trainer knows after a step.
struct StepFacts {
  int64_t step = 0;  // done, this one included
  double loss = 0, grad_norm = 0, learning_rate = 0;
  double seconds = 0;
  int64_t tokens = 0;
};

class RunLog {
 public:
  // `peak_flops`: of all ranks together, what MFU is a share of. The output folder must exist.
  RunLog(const JobConfig& config, double flops_per_token, double peak_flops, World& world);

  // One of these two is called before the first step.
  void start_over() { resume_at(0); }
  void resume_at(int64_t step);

  template <typename... Parts>
  void say(const Parts&... parts) { message(cat(parts...)); }
  template <typename... Parts>
  void warn(const Parts&... parts) { warning(cat(parts...)); }

  void step(const StepFacts& facts);
  void evaluation(int64_t step, double loss);
  // Writes what waits, before a checkpoint is saved: a kill right after it must lose no line.
  void flush() { if (speaks_) write_pending(); }
  void checkpoint(const std::string& path, int64_t bytes, double seconds);
  void finish(const TrainSummary& summary);

 private:
  void message(const std::string& text);
  void warning(const std::string& text);
  // The line of a step waits for the evaluation that may follow it.
  void write_pending();

  const JobConfig& config_;
  double flops_per_token_, peak_flops_;
  bool speaks_;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<MetricsLog> metrics_;
  std::unique_ptr<EventFile> events_;
  std::optional<StepMetrics> pending_;
};

}  // namespace tessera
