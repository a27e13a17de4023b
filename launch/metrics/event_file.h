// TensorBoard event files: point TensorBoard at the folder, and the curves are there.
//
// A file is a sequence of records of tensorflow/core/lib/io/record_writer.h:
//     u64 length | u32 masked crc32c of the length | bytes (an Event) | u32 masked crc32c of the
//     bytes
// all little-endian; masked(crc) = rotate_right(crc, 15) + 0xa282ead8.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "launch/metrics/step_metrics.h"

namespace tessera {

class EventFile {
 public:
  // Makes FOLDER/events.out.tfevents.TIME.HOST.PID.N, a new file each time, as TensorBoard expects.
  // With `resumed_step` > 0 it tells TensorBoard to forget the points past that step in the files
  // before it. Throws UserError with the system's reason.
  EventFile(const std::string& folder, int64_t resumed_step);
  EventFile(const EventFile&) = delete;
  ~EventFile();

  const std::string& path() const { return path_; }

  // Points of named curves at a step. Flushed. Throws UserError with the system's reason.
  void append(int64_t step, const std::vector<std::pair<std::string, double>>& values);
  // The curves "train/loss", "eval/loss", "train/grad_norm", "train/lr", "speed/tokens_per_second",
  // "speed/mfu" and "extra/NAME".
  void append(const StepMetrics& metrics);
  // Text (a config) under the tag, Markdown, at step 0.
  void append_text(const std::string& tag, const std::string& text);

 private:
  void write_record(const std::string& event);

  std::string path_;
  int descriptor_ = -1;
};

// What is in an event file, read back: for tests and tools. `kind` is "version", "start", "scalar"
// or "text"; `text` is the version or the text.
struct EventRecord {
  std::string kind;
  int64_t step = 0;
  double wall_time = 0;
  std::string tag;
  double value = 0;
  std::string text;
};

// Throws UserError, with the offset, where a checksum does not match or a record is cut short.
std::vector<EventRecord> read_event_file(const std::string& path);

}  // namespace tessera
