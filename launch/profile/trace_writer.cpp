#include "launch/profile/trace_writer.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace tessera {
namespace {

// Microseconds with three digits. The unit of the arithmetic is whole nanoseconds: ts + dur of an event that ends
// with the one around it is then the same decimal number.
std::string microseconds(int64_t nanoseconds) {
  char text[40];
  std::snprintf(text, sizeof text, "%s%lld.%03lld", nanoseconds < 0 ? "-" : "",
                static_cast<long long>(std::abs(nanoseconds) / 1000),
                static_cast<long long>(std::abs(nanoseconds) % 1000));
  return text;
}

[[noreturn]] void throw_unwritable(const std::string& path) {
  throw_user_error("the trace ", path, " cannot be written: ", std::strerror(errno),
                   "; --profile takes a folder, or a file that ends in .json, with write permission and room");
}

}  // namespace

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

TraceWriter::TraceWriter(std::string path, int process, double zero)
    : path_(std::move(path)), process_(process), zero_(zero), file_(path_, std::ios::binary | std::ios::trunc) {
  if (!file_) throw_unwritable(path_);
  file_ << "[";
}

TraceWriter::~TraceWriter() = default;

void TraceWriter::event(std::string_view text) {
  file_ << (is_first_ ? "\n" : ",\n") << text;
  is_first_ = false;
}

void TraceWriter::metadata(std::string_view what, int track, std::string_view args) {
  event(cat("{\"name\":\"", what, "\",\"ph\":\"M\",\"pid\":", process_, ",\"tid\":", track, ",\"args\":{", args, "}}"));
}

void TraceWriter::name_process(std::string_view name) {
  metadata("process_name", 0, cat("\"name\":", json_string(name)));
  metadata("process_sort_index", 0, cat("\"sort_index\":", process_));
}

void TraceWriter::name_track(int track, std::string_view name) {
  metadata("thread_name", track, cat("\"name\":", json_string(name)));
  metadata("thread_sort_index", track, cat("\"sort_index\":", track));
}

void TraceWriter::span(int track, std::string_view name, std::string_view category, double begin, double end,
                       std::string_view args) {
  const auto from = static_cast<int64_t>(std::llround((begin - zero_) * 1e9));
  const auto to = static_cast<int64_t>(std::llround((end - zero_) * 1e9));
  event(cat("{\"name\":", json_string(name), ",\"cat\":", json_string(category), ",\"ph\":\"X\",\"ts\":",
            microseconds(from), ",\"dur\":", microseconds(std::max<int64_t>(to - from, 0)), ",\"pid\":", process_,
            ",\"tid\":", track, ",\"args\":{", args, "}}"));
}

void TraceWriter::close() {
  file_ << "\n]\n";
  file_.close();
  if (!file_) throw_unwritable(path_);
}

void merge_traces(const std::vector<std::string>& parts, const std::string& merged) {
  std::ofstream out(merged, std::ios::binary | std::ios::trunc);
  if (!out) throw_unwritable(merged);
  out << "[";
  bool is_first = true;
  for (const std::string& part : parts) {
    std::ifstream in(part, std::ios::binary);
    if (!in) throw_user_error("the trace ", part, " cannot be read: ", std::strerror(errno));
    for (std::string line; std::getline(in, line);) {
      if (!line.empty() && line.back() == ',') line.pop_back();
      if (line.size() < 2 || line.front() != '{' || line.back() != '}') continue;  // a bracket, or a torn last line
      out << (is_first ? "\n" : ",\n") << line;
      is_first = false;
    }
  }
  out << "\n]\n";
  out.close();
  if (!out) throw_unwritable(merged);
}

int Lanes::take(double begin, double end) {
  size_t lane = 0;
  while (lane < ends_.size() && ends_[lane] > begin) ++lane;
  if (lane == ends_.size()) ends_.push_back(end);
  ends_[lane] = end;
  return static_cast<int>(lane);
}

}  // namespace tessera
