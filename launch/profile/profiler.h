// `train --profile`: traces of a few steps of a run, one file a rank and one of all of them.
//
// Off, it costs a null pointer's test a step. On, the profiled steps run one by one, with a barrier before each
// (what is written between them would show as waiting), and without recordings: a CUDA graph cannot be timed by
// kernel. Nothing is waited for inside a step.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/runtime/communicator.h"
#include "core/runtime/timeline.h"
#include "launch/engine/session.h"
#include "launch/profile/clock_offset.h"
#include "launch/profile/profile_options.h"
#include "launch/profile/profile_summary.h"
#include "launch/profile/rank_trace.h"

namespace tessera {

class Profiler {
 public:
  // Collective over `world`, whose communicators work on the backend's device. Makes the folder and the rank's file; throws UserError, the same on all
  // ranks, where one of them cannot. `options.wanted()`.
  Profiler(const ProfileOptions& options, World& world, Backend& backend);

  // Collective, once: `done` steps of `total` are done before the run. ConfigError where the run has none of the
  // steps that were asked for.
  void begin_run(int64_t done, int64_t total);
  // Collective: step `step` (from 1) comes next. Begins, goes on or ends.
  void before_step(int64_t step, Session& session);
  // Collective: no step comes any more.
  void end_run(Session& session);

  // Where the host notes what it does; null while nothing is profiled.
  Timeline* timeline() { return is_on_ ? &timeline_ : nullptr; }
  // What there is to tell since it was last asked: where it begins, and the summary. "" mostly.
  std::string news();
  // Once the profiled steps are over.
  const std::optional<ProfileReport>& report() const { return report_; }

 private:
  void begin(Session& session);
  void collect();
  void end(Session& session);
  ProfileReport summarize();

  const ProfileOptions options_;
  World& world_;
  Backend& backend_;
  std::unique_ptr<RankTrace> trace_;
  Timeline timeline_;
  bool is_on_ = false;
  int64_t first_ = 0, last_ = 0, current_ = 0;
  double clock_error_ = 0;
  std::string news_;
  std::optional<ProfileReport> report_;
};

}  // namespace tessera
