// What a person sees of a run while it runs, from rank 0.
//
//     live    step 120/2000  loss 2.3105  51.2 K tokens/s  1m32s left      (one line, drawn anew)
//     plain   the same as a line of its own: at the first step, every `interval` steps, at
//             evaluations, and at the last step
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "launch/metrics/step_metrics.h"

namespace tessera {

enum class ProgressMode { automatic, live, plain };

// automatic becomes live where output_is_watched(), plain elsewhere.
ProgressMode resolve_progress(ProgressMode mode);

struct ProgressConfig {
  ProgressMode mode = ProgressMode::automatic;
  int64_t first_step = 0;   // steps done before this run
  int64_t total_steps = 0;  // when the run ends
  int64_t interval = 10;    // steps between plain lines
  int descriptor = 1;       // where lines go
  int columns = 0;          // of the terminal; 0: ask it
};

class Progress {
 public:
  explicit Progress(const ProgressConfig& config);
  // Leaves the cursor on a line of its own.
  ~Progress();
  Progress(const Progress&) = delete;

  void step(const StepMetrics& metrics);
  // A line that stays, above the live one ("checkpoint saved ...").
  void message(const std::string& text);
  // Ends the live line, so that other output may follow; the next step begins another.
  void finish();

  bool live() const { return mode_ == ProgressMode::live; }

 private:
  std::string line_of(const StepMetrics& metrics) const;
  void write(const std::string& text);

  ProgressConfig config_;
  ProgressMode mode_;
  bool drawn_ = false;           // a live line is on the screen
  double seconds_per_step_ = 0;  // smoothed; 0 until known
  std::chrono::steady_clock::time_point last_step_, last_drawn_;
  int64_t last_step_number_ = -1;
  std::string last_eval_;
};

// 92 -> "1m32s", 7384 -> "2h03m", 0.4 -> "0s".
std::string human_duration(double seconds);

}  // namespace tessera
