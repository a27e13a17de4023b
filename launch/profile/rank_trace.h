// From what a rank noted of its steps to the events of its trace.
//
//     track 1             the host: steps, data, checkpoints, evaluations
//     track 2             compute: each run of a graph, and inside it its steps
//     tracks from 3       collectives in flight, one for each set of mesh axes; more where several overlap
#pragma once

#include <map>
#include <string>
#include <utility>

#include "core/runtime/backend.h"
#include "core/runtime/timeline.h"
#include "launch/profile/profile_summary.h"
#include "launch/profile/trace_writer.h"

namespace tessera {

// The host's span of one optimizer step: what shares are told of.
inline constexpr const char* kTrainStep = "train step";

class RankTrace {
 public:
  static constexpr int kHostTrack = 1, kComputeTrack = 2, kFirstWire = 3;

  // `what`: of the rank's process, "rank 0 on node7"; `device`: "GPU 0 NVIDIA H200".
  RankTrace(std::string path, int rank, const std::string& what, const std::string& device);

  // Subtracted from all times: rank 0's clock at the zero of the trace, as this rank's clock has it.
  void set_zero(double seconds) { writer_.set_zero(seconds); }
  // Writes what was noted while step `step` ran, which is over on the device, and adds it up.
  void add(const Timeline& timeline, Backend& backend, int64_t step);
  void close() { writer_.close(); }

  const ProfileSum& sum() const { return sum_; }

 private:
  struct Flight {
    const StepText* text;
    double begin, end;  // -1: nobody knows yet
    Ticket sequence;
    bool is_counted;
  };

  void add_host(const Timeline& timeline);
  void add_step(const Timeline::Step& it, Backend& backend);
  void add_start(const Timeline::Step& it, const StepText& text, Backend& backend);
  void add_wait(const Timeline::Step& it, const StepText& text, double end);
  void add_flight(const Flight& flight);
  int wire_track(const std::string& axes, int lane);

  TraceWriter writer_;
  ProfileSum sum_;                           // of what runs inside of train steps
  double step_begin_ = 0, step_end_ = 0;     // of the step that is added
  bool is_counted_ = false;                  // the run whose steps are added
  StepTexts texts_;
  std::map<std::pair<const Executable*, int>, Flight> started_;  // by start step; nothing waited for it yet
  std::vector<Flight> flights_;                                  // of the step that is added
  std::map<std::string, Lanes> lanes_;                           // by axes
  std::map<std::pair<std::string, int>, int> tracks_;
};

}  // namespace tessera
