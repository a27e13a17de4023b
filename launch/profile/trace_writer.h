// Chrome's trace events as a JSON array, which ui.perfetto.dev and chrome://tracing open; written as they come.
//
//     [
//     {"name":"process_name","ph":"M","pid":0,"tid":0,"args":{"name":"rank 0"}},
//     {"name":"dot_general block.0/mlp","cat":"kernel","ph":"X","ts":12.250,"dur":3.125,"pid":0,"tid":2,"args":{...}}
//     ]
//
// One event a line. The format lets the closing bracket be missing, so the file of a run that was killed opens too.
#pragma once

#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// `text` as a JSON string, quotes included; what is no UTF-8 is replaced.
std::string json_string(std::string_view text);

class TraceWriter {
 public:
  // Of process number `process`; times are told from `zero` (seconds of any clock). Throws UserError where the
  // file cannot be written.
  TraceWriter(std::string path, int process, double zero = 0);
  ~TraceWriter();

  const std::string& path() const { return path_; }
  void set_zero(double seconds) { zero_ = seconds; }

  void name_process(std::string_view name);
  // Tracks are shown in the order of their numbers.
  void name_track(int track, std::string_view name);

  // A complete event. `args`: members of an object without its braces, as JSON ("" for none). Where `end` is before
  // `begin` it has no length.
  void span(int track, std::string_view name, std::string_view category, double begin, double end,
            std::string_view args);

  // Ends the array. Throws UserError where not all could be written.
  void close();

 private:
  void metadata(std::string_view what, int track, std::string_view args);
  void event(std::string_view text);

  const std::string path_;
  const int process_;
  double zero_;
  std::ofstream file_;
  bool is_first_ = true;
};

// One array of all events of `parts`, which TraceWriter wrote (closed or not). Throws UserError naming the file that
// cannot be read or written.
void merge_traces(const std::vector<std::string>& parts, const std::string& merged);

// Gives overlapping intervals lanes of their own, so that the events of each track nest: an interval takes the first
// lane whose last one has ended. Intervals come in the order of their begins.
class Lanes {
 public:
  int take(double begin, double end);

 private:
  std::vector<double> ends_;
};

}  // namespace tessera
