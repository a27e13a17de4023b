// metrics.jsonl: one JSON object a line, one line a step, for scripts and notebooks.
//
//     {"step":7,"loss":2.31,"eval_loss":2.4,"grad_norm":0.8,"lr":0.001,"tokens_per_second":51234.5,
//      "mfu":0.41}                                                                    (on one line)
//
// A line is written with one system call and is complete or absent: a line that a kill or a full
// disk left half done is cut off by the next start.
#pragma once

#include <cstdint>
#include <string>

#include "launch/metrics/step_metrics.h"

namespace tessera {

class MetricsLog {
 public:
  // Opens `path` for appending, made if absent. Lines of steps past `resumed_step` are cut off, so
  // that the file tells the run that goes on from there; 0 starts the file anew. Throws UserError
  // with the system's reason.
  MetricsLog(std::string path, int64_t resumed_step);
  MetricsLog(const MetricsLog&) = delete;
  ~MetricsLog();

  // Throws UserError with the system's reason (a full disk); the file then ends before this line.
  void append(const StepMetrics& metrics);

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// A line without its end. A number that JSON cannot hold (NaN, infinity) is null.
std::string to_json(const StepMetrics& metrics);

// How many bytes of `text` are whole lines of steps up to `step`.
int64_t bytes_up_to_step(const std::string& text, int64_t step);

}  // namespace tessera
