// Where the time of profiled steps went, by op: the table at the end of a profiled run.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launch/profile/step_text.h"

namespace tessera {

// Of one rank. Times are seconds on its compute track, summed over the profiled steps.
struct ProfileRow {
  std::string op, where;  // "dot_general", "block.*/mlp"
  int64_t runs = 0;
  double seconds = 0;
  double flops = 0, bytes = 0;      // by the cost model
  double in_flight_seconds = 0;     // of a wait: while any of its collectives was in flight
  bool communicates = false;
  double flops_per_second() const { return seconds > 0 ? flops / seconds : 0; }
  // Of collectives: bytes sent while in flight.
  double bytes_per_second() const;
};

struct ProfileReport {
  std::string trace;             // the merged file
  int64_t first = 0, last = 0;   // steps; 0: none was run
  int64_t steps() const { return first > 0 ? last - first + 1 : 0; }
  double step_seconds = 0;       // of all of them, on rank 0, as the host saw them
  double kernel_seconds = 0;     // kernels, copies and what else the compute track does by itself
  double exposed_seconds = 0;    // communication that the compute track waited for or worked at
  double least_exposed = 0, most_exposed = 0;  // shares of the step, among the ranks
  double clock_error = 0;        // seconds between the ranks' clocks, at most
  int ranks = 1;
  std::vector<ProfileRow> rows;  // of rank 0, most time first
};

// Adds up spans of the compute track.
class ProfileSum {
 public:
  void add(const StepText& text, double seconds);
  // A collective, of which `text` is the start or the wait, was in flight. In the order of the begins.
  void add_flight(const StepText& text, double begin, double end);
  // The processor helped collectives along between steps.
  void add_progress(double seconds);
  void add_step(double seconds) { step_seconds_ += seconds; }

  double step_seconds() const { return step_seconds_; }
  double exposed_seconds() const;
  double kernel_seconds() const;
  std::vector<ProfileRow> rows() const;  // most time first

 private:
  ProfileRow& row(const std::string& op, const std::string& where);

  double step_seconds_ = 0;
  std::map<std::pair<std::string, std::string>, ProfileRow> rows_;
  std::map<std::pair<std::string, std::string>, double> flown_until_;
};

// The table: the ten rows with the most time.
std::string print_profile(const ProfileReport& report);
// The same and all other rows, as a JSON object.
std::string profile_json(const ProfileReport& report);

}  // namespace tessera
