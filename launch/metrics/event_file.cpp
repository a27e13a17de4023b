#include "launch/metrics/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "core/base/error.h"
#include "launch/checkpoint/crc32c.h"
#include "launch/checkpoint/file_system.h"
#include "proto/tensorboard.pb.h"

namespace tessera {
namespace {

namespace tb = proto::tensorboard;

constexpr int32_t kStringDtype = 7;  // DT_STRING of tensorflow/core/framework/types.proto

double now() {
  const std::chrono::duration<double> since = std::chrono::system_clock::now().time_since_epoch();
  return since.count();
}

// Records often hold checksums; the mask keeps the checksum of a checksum from being trivial.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

template <typename Integer>
void put_little_endian(std::string& out, Integer value) {
  for (size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

template <typename Integer>
Integer get_little_endian(std::string_view bytes) {
  Integer value = 0;
  for (size_t i = 0; i < sizeof value; ++i)
    value |= static_cast<Integer>(static_cast<uint8_t>(bytes[i])) << (8 * i);
  return value;
}

std::string new_path(const std::string& folder) {
  static std::atomic<int> count{0};  // files of one process in one second differ by it
  char host[256] = "localhost", name[400];
  ::gethostname(host, sizeof host - 1);
  std::snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%d.%d",
                static_cast<long long>(now()), host, ::getpid(), count++);
  return folder + "/" + name;
}

}  // namespace

EventFile::EventFile(const std::string& folder, int64_t resumed_step) : path_(new_path(folder)) {
  posix_file_system().create_folders(folder);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0)
    throw_user_error("event file ", path_, " cannot be made: ", std::strerror(errno));
  try {
    tb::Event version;
    version.set_wall_time(now());
    version.set_file_version("brain.Event:2");
    write_record(version.SerializeAsString());
    if (resumed_step > 0) {
      tb::Event start;
      start.set_wall_time(now());
      start.set_step(resumed_step + 1);  // the first step that is told anew
      start.mutable_session_log()->set_status(tb::SessionLog::START);
      write_record(start.SerializeAsString());
    }
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

EventFile::~EventFile() { ::close(descriptor_); }

void EventFile::write_record(const std::string& event) {
  std::string record;
  put_little_endian<uint64_t>(record, event.size());
  put_little_endian<uint32_t>(record, masked_crc(record));
  record += event;
  put_little_endian<uint32_t>(record, masked_crc(event));
  // One call a record, so that a reader of the live file never waits on half of one for long.
  ssize_t written;
  do written = ::write(descriptor_, record.data(), record.size());
  while (written < 0 && errno == EINTR);
  if (written != static_cast<ssize_t>(record.size()))
    throw_user_error("event file ", path_,
                     " cannot be written: ", std::strerror(written < 0 ? errno : ENOSPC));
}

void EventFile::append(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  tb::Event event;
  event.set_wall_time(now());
  event.set_step(step);
  for (const auto& [tag, number] : values) {
    tb::Summary::Value& value = *event.mutable_summary()->add_value();
    value.set_tag(tag);
    value.set_simple_value(static_cast<float>(number));
  }
  write_record(event.SerializeAsString());
}

void EventFile::append(const StepMetrics& metrics) {
  std::vector<std::pair<std::string, double>> values = {{"train/loss", metrics.loss}};
  if (metrics.eval_loss) values.emplace_back("eval/loss", *metrics.eval_loss);
  values.emplace_back("train/grad_norm", metrics.grad_norm);
  values.emplace_back("train/lr", metrics.lr);
  values.emplace_back("speed/tokens_per_second", metrics.tokens_per_second);
  if (metrics.mfu) values.emplace_back("speed/mfu", *metrics.mfu);
  for (const auto& [name, value] : metrics.extra) values.emplace_back("extra/" + name, value);
  append(metrics.step, values);
}

void EventFile::append_text(const std::string& tag, const std::string& text) {
  tb::Event event;
  event.set_wall_time(now());
  tb::Summary::Value& value = *event.mutable_summary()->add_value();
  value.set_tag(tag);
  value.mutable_metadata()->mutable_plugin_data()->set_plugin_name("text");
  value.mutable_tensor()->set_dtype(kStringDtype);
  value.mutable_tensor()->mutable_tensor_shape()->add_dim()->set_size(1);
  value.mutable_tensor()->add_string_val(text);
  write_record(event.SerializeAsString());
}

namespace {

void add_event(const tb::Event& event, std::vector<EventRecord>& records) {
  EventRecord record;
  record.step = event.step();
  record.wall_time = event.wall_time();
  if (event.has_session_log()) {
    record.kind = "start";
    records.push_back(record);
  } else if (!event.file_version().empty()) {
    record.kind = "version";
    record.text = event.file_version();
    records.push_back(record);
  }
  for (const tb::Summary::Value& value : event.summary().value()) {
    record.kind = value.has_tensor() ? "text" : "scalar";
    record.tag = value.tag();
    record.value = value.simple_value();
    record.text = value.tensor().string_val_size() > 0 ? value.tensor().string_val(0) : "";
    records.push_back(record);
  }
}

}  // namespace

std::vector<EventRecord> read_event_file(const std::string& path) {
  const std::string bytes = read_file(path);
  std::vector<EventRecord> records;
  for (size_t at = 0; at < bytes.size();) {
    const std::string_view rest = std::string_view(bytes).substr(at);
    const auto bad = [&](const char* what) {
      throw_user_error("event file ", path, " is damaged at byte ", at, ": ", what);
    };
    if (rest.size() < 12) bad("the record is cut short");
    if (get_little_endian<uint32_t>(rest.substr(8, 4)) != masked_crc(rest.substr(0, 8)))
      bad("the checksum of the length is wrong");
    const uint64_t length = get_little_endian<uint64_t>(rest.substr(0, 8));
    if (rest.size() < 16 || length > rest.size() - 16) bad("the record is cut short");
    const std::string_view body = rest.substr(12, length);
    if (get_little_endian<uint32_t>(rest.substr(12 + length, 4)) != masked_crc(body))
      bad("the checksum of the record is wrong");
    tb::Event event;
    if (!event.ParseFromArray(body.data(), static_cast<int>(body.size()))) bad("it is no Event");
    add_event(event, records);
    at += 16 + length;
  }
  return records;
}

}  // namespace tessera
