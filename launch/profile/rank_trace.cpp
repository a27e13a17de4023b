#include "launch/profile/rank_trace.h"

#include <algorithm>

namespace tessera {
namespace {

// Help for collectives that took less is the test whether there was anything to do.
constexpr double kLeastProgress = 5e-6;

std::string with_sequence(const StepText& text, Ticket sequence) {
  return cat(text.args, ",\"sequence\":", sequence);
}

}  // namespace

RankTrace::RankTrace(std::string path, int rank, const std::string& what, const std::string& device)
    : writer_(std::move(path), rank) {
  writer_.name_process(what);
  writer_.name_track(kHostTrack, "host");
  writer_.name_track(kComputeTrack, cat("compute (", device, ")"));
}

void RankTrace::add(const Timeline& timeline, Backend& backend, int64_t step) {
  flights_.clear();
  is_counted_ = false;
  add_host(timeline);
  for (const Timeline::Step& it : timeline.steps) {
    if (it.end < 0) continue;
    if (it.step != Timeline::kRun) {
      add_step(it, backend);
      continue;
    }
    const double begin = backend.time_of(it.begin);
    is_counted_ = step_begin_ <= begin && begin <= step_end_;
    writer_.span(kComputeTrack, cat("step ", step, ": graph ", it.executable->graph.name), "run", begin,
                 backend.time_of(it.end), cat("\"step\":", step));
  }
  std::stable_sort(flights_.begin(), flights_.end(), [](const Flight& a, const Flight& b) { return a.begin < b.begin; });
  for (const Flight& flight : flights_) add_flight(flight);
}

void RankTrace::add_host(const Timeline& timeline) {
  for (const Timeline::HostSpan& span : timeline.host) {
    const std::string args = span.number < 0 ? "" : cat("\"number\":", span.number);
    writer_.span(kHostTrack, span.name, "host", span.begin, span.end, args);
    if (std::string_view(span.name) != kTrainStep) continue;
    step_begin_ = span.begin;
    step_end_ = span.end;
    sum_.add_step(span.end - span.begin);
  }
}

void RankTrace::add_step(const Timeline::Step& it, Backend& backend) {
  const StepText& text = texts_.of(*it.executable, it.step);
  const double begin = backend.time_of(it.begin), end = backend.time_of(it.end);
  writer_.span(kComputeTrack, text.title, category(text.kind), begin, end,
               text.communicates() ? with_sequence(text, it.ticket) : text.args);
  // A loop's or branch's span is that of the steps inside, which count; the test of a loop waits for the device.
  const bool is_control = text.kind == StepText::Kind::control;
  if (is_counted_ && (!is_control || text.is_test)) sum_.add(text, end - begin);
  if (text.kind == StepText::Kind::start) add_start(it, text, backend);
  if (text.kind == StepText::Kind::wait) add_wait(it, text, end);
  if (it.polled < 0 || is_control) return;
  const double polled = backend.time_of(it.polled);
  if (polled - end < kLeastProgress) return;
  writer_.span(kComputeTrack, "progress of collectives", "progress", end, polled, "");
  if (is_counted_) sum_.add_progress(polled - end);
}

void RankTrace::add_start(const Timeline::Step& it, const StepText& text, Backend& backend) {
  const std::pair key(it.executable, it.step);
  Flight flight{&text, backend.time_of(it.begin), -1, it.ticket, is_counted_};
  if (it.wire_begin >= 0) {
    // On a stream of its own. That was free at `wire_begin`, but the operands were there at `begin` only.
    flight.begin = std::max(flight.begin, backend.time_of(it.wire_begin));
    flight.end = backend.time_of(it.wire_end);
    flights_.push_back(flight);
  }
  started_[key] = flight;
}

void RankTrace::add_wait(const Timeline::Step& it, const StepText& text, double end) {
  const auto start = started_.find({it.executable, text.start_step});
  if (start == started_.end()) return;  // of a run that was not profiled
  Flight& flight = start->second;
  if (flight.end < 0) {
    flight.end = end;
    flights_.push_back(flight);
  }
  started_.erase(start);
}

void RankTrace::add_flight(const Flight& flight) {
  if (flight.is_counted) sum_.add_flight(*flight.text, flight.begin, flight.end);
  const int lane = lanes_[flight.text->axes].take(flight.begin, flight.end);
  writer_.span(wire_track(flight.text->axes, lane), flight.text->collective, "collective", flight.begin, flight.end,
               with_sequence(*flight.text, flight.sequence));
}

int RankTrace::wire_track(const std::string& axes, int lane) {
  const auto [found, is_new] = tracks_.try_emplace({axes, lane}, kFirstWire + static_cast<int>(tracks_.size()));
  if (is_new) writer_.name_track(found->second, cat("communication ", axes, lane == 0 ? "" : cat(" (", lane + 1, ")")));
  return found->second;
}

}  // namespace tessera
