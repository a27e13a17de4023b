// The executor's run with a timeline, and the names it gives to what it submits. The steps and their order are
// those of every other run, so its results have the same bits.
#include "core/runtime/bound_step.h"
#include "core/runtime/named_range.h"
#include "core/runtime/timeline.h"

namespace tessera {

void Executor::run_all_timed() {
  const size_t run = timeline_->steps.size();
  timeline_->steps.push_back({.executable = &executable_, .begin = backend_.mark_time()});
  while (step_ < bound_.size()) {
    const size_t next = run_timed(step_);
    for (const auto& communicator : communicators_) communicator->poll();
    if (backend_.is_host() && !communicators_.empty()) timeline_->steps.back().polled = backend_.mark_time();
    step_ = next;
  }
  timeline_->steps[run].end = backend_.mark_time();
}

size_t Executor::run_timed(size_t step) {
  Bound& bound = bound_[step];
  Timeline::Step timed{.executable = &executable_, .step = static_cast<int>(step), .begin = backend_.mark_time()};
  const bool enters = bound.kind == Bound::Kind::loop_begin || bound.kind == Bound::Kind::branch_begin;
  if (enters) {
    bound.timed = timeline_->steps.size();
    timeline_->steps.push_back(timed);
  }
  void* const wire = bound.kind == Bound::Kind::start ? bound.communicator->stream() : nullptr;
  if (wire) timed.wire_begin = backend_.mark_time(wire);
  const size_t next = run_at(step);
  if (wire) timed.wire_end = backend_.mark_time(wire);
  timed.end = backend_.mark_time();
  if (bound.kind == Bound::Kind::start) timed.ticket = bound.ticket;
  if (bound.kind == Bound::Kind::done) timed.ticket = bound.started->ticket;
  const bool is_marker = bound.kind == Bound::Kind::loop_end || bound.kind == Bound::Kind::arm_end;
  const bool is_idle = bound.kind == Bound::Kind::done && bound.is_idle;
  if (!enters && !is_marker && !is_idle) timeline_->steps.push_back(timed);
  if (bound.kind >= Bound::Kind::loop_begin) {
    const Bound& entered = enters ? bound : *bound.started;
    if (next == entered.end_step + 1) timeline_->steps[entered.timed].end = timed.end;
  }
  return next;
}

void Executor::name_ranges() {
  if (!backend_.has_ranges()) return;
  for (size_t step = 0; step < bound_.size(); ++step)
    range_names_.push_back(step_title(executable_, static_cast<int>(step)));
  for (Segment& segment : segments_)
    segment.name = cat(executable_.graph.name, ": steps ", segment.begin, " to ", segment.end - 1);
}

}  // namespace tessera
