#include "launch/metrics/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "launch/checkpoint/file_system.h"

namespace tessera {
namespace {

std::string json_number(double value) {
  return std::isfinite(value) ? print_double(value) : "null";
}

// The step of a line that to_json wrote; -1 for any other text.
int64_t step_of_line(std::string_view line) {
  constexpr std::string_view kStart = "{\"step\":";
  if (!line.starts_with(kStart) || !line.ends_with('}')) return -1;
  int64_t step = -1;
  const auto [end, error] =
      std::from_chars(line.data() + kStart.size(), line.data() + line.size(), step);
  return error == std::errc() && *end == ',' ? step : -1;
}

}  // namespace

std::string to_json(const StepMetrics& metrics) {
  std::string text = cat("{\"step\":", metrics.step, ",\"loss\":", json_number(metrics.loss));
  const auto add = [&text](const std::string& name, double value) {
    text += cat(",\"", name, "\":", json_number(value));
  };
  if (metrics.eval_loss) add("eval_loss", *metrics.eval_loss);
  add("grad_norm", metrics.grad_norm);
  add("lr", metrics.lr);
  add("tokens_per_second", metrics.tokens_per_second);
  if (metrics.mfu) add("mfu", *metrics.mfu);
  for (const auto& [name, value] : metrics.extra) add(name, value);
  return text + "}";
}

int64_t bytes_up_to_step(const std::string& text, int64_t step) {
  size_t kept = 0;
  while (kept < text.size()) {
    const size_t end = text.find('\n', kept);
    if (end == std::string::npos) break;
    const int64_t line_step = step_of_line(std::string_view(text).substr(kept, end - kept));
    if (line_step < 0 || line_step > step) break;
    kept = end + 1;
  }
  return static_cast<int64_t>(kept);
}

MetricsLog::MetricsLog(std::string path, int64_t resumed_step) : path_(std::move(path)) {
  if (resumed_step > 0 && std::filesystem::exists(path_))
    size_ = bytes_up_to_step(read_file(path_), resumed_step);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0)
    throw_user_error("metrics file ", path_, " cannot be opened: ", std::strerror(errno));
  // Not for pipes and devices, which a user may name as well.
  if (::ftruncate(descriptor_, size_) != 0 && errno != EINVAL) {
    const int code = errno;
    ::close(descriptor_);
    throw_user_error("metrics file ", path_, " cannot be written: ", std::strerror(code));
  }
}

MetricsLog::~MetricsLog() { ::close(descriptor_); }

void MetricsLog::append(const StepMetrics& metrics) {
  const std::string line = to_json(metrics) + "\n";
  ssize_t written;
  do written = ::write(descriptor_, line.data(), line.size());
  while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(line.size())) {
    size_ += written;
    return;
  }
  const int code = written < 0 ? errno : ENOSPC;  // a short write to a file means a full disk
  if (::ftruncate(descriptor_, size_) != 0) {
    // Nothing to add: the next start cuts off the rest of the line.
  }
  throw_user_error("metrics file ", path_, " cannot be written at step ", metrics.step, ": ",
                   std::strerror(code), ". Free some space and run again; the run resumes");
}

}  // namespace tessera
