#include "kernels/cuda/comm/nccl_watch.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/runtime/lag_report.h"

namespace tessera::cuda {
namespace {

constexpr auto kPeriod = std::chrono::milliseconds(20);
constexpr double kLeftToWatchdog = 30;  // seconds

}  // namespace

NcclWatch::NcclWatch(World& inner) : inner_(inner), engine_(inner.progress()) {
  TESSERA_CHECK(engine_ != nullptr, "a world that does not keep its ranks' progress");
  thread_ = std::thread([this] { run(); });
}

NcclWatch::~NcclWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void NcclWatch::add(int number, FlightTrack* track, std::shared_ptr<NcclCommunicator> communicator) {
  const std::lock_guard lock(mutex_);
  watched_.push_back({number, track, std::move(communicator)});
}

void NcclWatch::remove(const FlightTrack* track) {
  // Where the job has failed, what this group did belongs into the record, which is written at the next look.
  for (int round = 0; round < 100 && engine_->board().abort_state() != AbortState::none && !failed_; ++round)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const std::lock_guard lock(mutex_);
  std::erase_if(watched_, [&](const Watched& watched) { return watched.track == track; });
}

void NcclWatch::verify() const {
  if (!failed_.load(std::memory_order_acquire)) return;
  if (failed_by_peer_) throw PeerFailure(failure_);
  throw_user_error(failure_);
}

void NcclWatch::run() {
  bool goes_on = true;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    try {
      if (goes_on) goes_on = look();
    } catch (const std::exception& error) {
      log_error("rank ", inner_.rank(), ": watching NCCL failed: ", error.what());
      goes_on = false;
    }
    lock.lock();
    wake_.wait_for(lock, kPeriod, [&] { return stopping_; });
  }
}

bool NcclWatch::look() {
  const int64_t now = monotonic_nanoseconds();
  const ProgressBoard& board = engine_->board();
  if (board.abort_state() == AbortState::timed_out) {  // the world's watchdog is about to end the process
    (void)write_record(board.abort_reason());
    return false;
  }
  if (board.abort_state() == AbortState::failed) {
    const int culprit = board.abort_rank();
    const std::string reason = board.abort_reason();
    const bool is_named = reason.rfind(cat("rank ", culprit, " "), 0) == 0;
    fail({is_named ? reason : cat("rank ", culprit, " failed: ", reason), culprit, true, false});
    return false;
  }
  Verdict verdict{"", -1, false, true};
  {
    const std::lock_guard lock(mutex_);
    for (Watched& watched : watched_) {
      const bool hangs = publish(watched, now);
      if (verdict.culprit >= 0) continue;
      if (std::string error = watched.communicator->failure(); !error.empty()) {
        verdict = {cat("rank ", inner_.rank(), ": ", error), inner_.rank(), false, true};
      } else if (hangs) {
        verdict.is_peer = true;
        verdict.text = lag_text(watched, now, verdict.culprit);
      }
    }
    if (verdict.culprit < 0) show_wait(now);
  }
  if (verdict.culprit < 0) return true;
  fail(verdict);
  return false;
}

// The device's counters become words on the board. True: the collective it is in has run out of time.
bool NcclWatch::publish(Watched& watched, int64_t now) {
  RankProgress& words = engine_->board().rank(engine_->board().local_of(inner_.rank()));
  const auto number = static_cast<size_t>(watched.number);
  const uint64_t finished = watched.track->finished(), started = watched.track->started();
  words.finished[number].store(finished, std::memory_order_release);
  if (words.started[number].load(std::memory_order_relaxed) != started) {
    if (const auto last = watched.track->last(1); !last.empty()) {
      words.last.group.store(watched.number, std::memory_order_relaxed);
      words.last.kind.store(static_cast<int>(last[0].kind), std::memory_order_relaxed);
      words.last.sequence.store(started, std::memory_order_relaxed);
      words.last.tensor.store(last[0].tensor);
    }
    words.started[number].store(started, std::memory_order_release);
  }
  if (started == finished) {
    watched.hung_at = 0;
    return false;
  }
  if (watched.hung_at != started) {
    watched.hung_at = started;
    watched.since = now;
  }
  const double limit = timeout_ + (inner_.shares_process() ? 0 : kLeftToWatchdog);
  return timeout_ > 0 && static_cast<double>(now - watched.since) * 1e-9 > limit;
}

// What hangs longest stands on the board as if this rank's thread waited for it, unless that thread waits itself.
void NcclWatch::show_wait(int64_t now) {
  if (inner_.shares_process()) return;
  RankProgress& words = engine_->board().rank(engine_->board().local_of(inner_.rank()));
  const Watched* longest = nullptr;
  for (const Watched& watched : watched_)
    if (watched.hung_at > 0 && now - watched.since > 1'000'000'000 && (!longest || watched.since < longest->since))
      longest = &watched;
  if (!longest) {
    if (shows_wait_) words.waiting_since.store(0, std::memory_order_release);
    shows_wait_ = false;
    return;
  }
  if (words.waiting_since.load(std::memory_order_acquire) != 0) return;
  const auto last = longest->track->last(1);
  if (last.empty()) return;
  words.waiting.group.store(longest->number, std::memory_order_relaxed);
  words.waiting.kind.store(static_cast<int>(last[0].kind), std::memory_order_relaxed);
  words.waiting.sequence.store(longest->hung_at, std::memory_order_relaxed);
  words.waiting.tensor.store(last[0].tensor);
  words.waiting_since.store(longest->since, std::memory_order_release);
  shows_wait_ = true;
}

std::string NcclWatch::lag_text(const Watched& watched, int64_t now, int& culprit) const {
  const auto last = watched.track->last(1);
  WaitSite site{watched.number, CollectiveMark::kControl, watched.hung_at, "a collective"};
  if (!last.empty()) {
    site.kind = static_cast<int>(last[0].kind);
    site.tensor = last[0].tensor;
  }
  const LagReport report = report_lag(inner_.rank(), watched.track->info(), site,
                                      static_cast<double>(now - watched.since) * 1e-9,
                                      view_members(engine_->board(), watched.track->info(), watched.number));
  culprit = report.culprit;
  return report.text;
}

void NcclWatch::fail(const Verdict& verdict) {
  failure_ = cat(verdict.text, write_record(verdict.text));
  failed_by_peer_ = verdict.is_peer;
  failed_.store(true, std::memory_order_release);
  if (verdict.is_news) {
    if (inner_.shares_process())
      engine_->board().abort(AbortState::failed, verdict.culprit, verdict.text);
    else
      inner_.abort(verdict.text);
  }
  std::vector<std::shared_ptr<NcclCommunicator>> communicators;
  {
    const std::lock_guard lock(mutex_);
    for (const Watched& watched : watched_) communicators.push_back(watched.communicator);
  }
  for (const auto& communicator : communicators) communicator->abort();
}

// Returns what a message tells of it.
std::string NcclWatch::write_record(const std::string& reason) {
  FlightRecord record;
  record.rank = inner_.rank();
  record.ranks = inner_.size();
  record.host = inner_.host_name();
  record.reason = reason;
  {
    const std::lock_guard lock(mutex_);
    for (const Watched& watched : watched_) {
      const auto group = static_cast<int>(record.groups.size());
      record.groups.push_back(watched.track->counts());
      for (FlightEntry& entry : watched.track->last()) {
        entry.group = group;
        record.entries.push_back(std::move(entry));
      }
    }
  }
  std::stable_sort(record.entries.begin(), record.entries.end(),
                   [](const FlightEntry& a, const FlightEntry& b) { return a.started_at < b.started_at; });
  try {
    if (const char* folder = std::getenv("TESSERA_FLIGHT_RECORD"); folder && *folder)
      return cat(" Flight record: ", write_flight_record(record, folder));
  } catch (const std::exception& error) {
    log_warning("warning: ", error.what());
  }
  constexpr size_t kTold = 4;
  std::string told;
  const size_t begin = record.entries.size() > kTold ? record.entries.size() - kTold : 0;
  for (size_t i = begin; i < record.entries.size(); ++i)
    told += cat(i == begin ? "" : ", ", describe(record, record.entries[i]),
                record.entries[i].finished_at == 0 ? " (not finished)" : "");
  return told.empty() ? ""
                      : cat(" This rank's device began last: ", told,
                            ". TESSERA_FLIGHT_RECORD=FOLDER keeps all of them for every rank.");
}

}  // namespace tessera::cuda
