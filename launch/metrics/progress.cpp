#include "launch/metrics/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>

#include "core/base/strings.h"
#include "launch/metrics/terminal.h"

namespace tessera {
namespace {

constexpr const char* kClearLine = "\r\x1b[K";
constexpr double kSecondsBetweenDraws = 0.1;
constexpr double kSmoothing = 0.1;  // weight of the newest step in the time left

std::string print(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

}  // namespace

ProgressMode resolve_progress(ProgressMode mode) {
  if (mode != ProgressMode::automatic) return mode;
  return output_is_watched() ? ProgressMode::live : ProgressMode::plain;
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<long long>(std::llround(seconds));
  char text[48];
  if (whole < 60)
    std::snprintf(text, sizeof text, "%llds", whole);
  else if (whole < 3600)
    std::snprintf(text, sizeof text, "%lldm%02llds", whole / 60, whole % 60);
  else if (whole < 86400)
    std::snprintf(text, sizeof text, "%lldh%02lldm", whole / 3600, whole / 60 % 60);
  else
    std::snprintf(text, sizeof text, "%lldd%02lldh", whole / 86400, whole / 3600 % 24);
  return text;
}

Progress::Progress(const ProgressConfig& config)
    : config_(config), mode_(resolve_progress(config.mode)) {
  if (mode_ == ProgressMode::live && config_.columns <= 0) config_.columns = terminal_columns();
}

Progress::~Progress() { finish(); }

std::string Progress::line_of(const StepMetrics& metrics) const {
  std::string line =
      cat("step ", metrics.step, "/", config_.total_steps, "  loss ", print("%.4f", metrics.loss));
  if (metrics.eval_loss)
    line += "  eval " + print("%.4f", *metrics.eval_loss);
  else if (mode_ == ProgressMode::live)
    line += last_eval_;
  if (mode_ == ProgressMode::plain)
    line += cat("  grad ", print("%.3g", metrics.grad_norm), "  lr ", print("%.3g", metrics.lr));
  line += cat("  ", human_count(metrics.tokens_per_second), " tokens/s");
  if (metrics.mfu) line += cat("  mfu ", print("%.1f", 100 * *metrics.mfu), "%");
  const int64_t left = config_.total_steps - metrics.step;
  if (left > 0 && seconds_per_step_ > 0)
    line += cat("  ", human_duration(seconds_per_step_ * static_cast<double>(left)), " left");
  return line;
}

void Progress::step(const StepMetrics& metrics) {
  const auto now = std::chrono::steady_clock::now();
  if (last_step_number_ >= 0 && metrics.step > last_step_number_) {
    const double seconds = std::chrono::duration<double>(now - last_step_).count() /
                           static_cast<double>(metrics.step - last_step_number_);
    // The mean at first, so that one slow step at the start does not linger.
    const double weight =
        std::max(kSmoothing, 1.0 / static_cast<double>(metrics.step - config_.first_step));
    seconds_per_step_ += weight * (seconds - seconds_per_step_);
  }
  last_step_ = now;
  last_step_number_ = metrics.step;
  if (metrics.eval_loss) last_eval_ = "  eval " + print("%.4f", *metrics.eval_loss);

  const bool first = metrics.step == config_.first_step + 1,
             last = metrics.step >= config_.total_steps;
  if (mode_ == ProgressMode::plain) {
    if (first || last || metrics.eval_loss ||
        metrics.step % std::max<int64_t>(1, config_.interval) == 0)
      write(line_of(metrics) + "\n");
    return;
  }
  const double since = std::chrono::duration<double>(now - last_drawn_).count();
  if (!first && !last && drawn_ && since < kSecondsBetweenDraws) return;
  last_drawn_ = now;
  // A line that wraps could not be drawn over.
  write(kClearLine + line_of(metrics).substr(0, static_cast<size_t>(config_.columns - 1)));
  drawn_ = true;
  if (last) finish();
}

void Progress::message(const std::string& text) {
  write((drawn_ ? kClearLine : "") + text + "\n");
  drawn_ = false;
}

void Progress::finish() {
  if (drawn_) write("\n");
  drawn_ = false;
}

// A reader that went away (a closed pipe, a lost terminal) is no reason to stop training.
void Progress::write(const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(config_.descriptor, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace tessera
