#include "core/runtime/progress_engine.h"

#include <sched.h>

#include <algorithm>

#include "core/runtime/lag_report.h"

namespace tessera {
namespace {

// Rounds of a wait before it yields, and before it sleeps. A round is one poll, some 20-100 ns.
struct Patience {
  int spins, yields;
};
constexpr Patience kOwnCore{4000, 64};
constexpr Patience kCrowded{64, 4};
// A lost wake-up would cost this much, not a hang.
constexpr int64_t kNapNanoseconds = 20'000'000;
// Between polls of messages that ring no doorbell.
constexpr int64_t kPollNapNanoseconds = 50'000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("" ::: "memory");
#endif
}

}  // namespace

ProgressEngine::ProgressEngine(ProgressBoard* board, int world_rank, WaitPolicy policy)
    : board_(board), world_rank_(world_rank), local_(board->local_of(world_rank)), policy_(policy) {
  TESSERA_CHECK(local_ >= 0, "rank ", world_rank, " is not on its own board");
  board_->join(local_);
}

ProgressEngine::~ProgressEngine() { close(); }

ProgressEngine::Share::Share(ProgressEngine& engine) : words_(engine.self()) {
  words_.sharing.store(1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  allowed_ = engine.board_->abort_state() == AbortState::none;
}

void ProgressEngine::add_group(int number, GroupInfo info) {
  if (number >= kMaxGroups)
    throw_config_error("group '", info.name, "' would be communicator number ", number,
                       " of this rank; at most ", kMaxGroups,
                       " are watched. Use a mesh with fewer axes or fewer axis combinations.");
  const std::lock_guard lock(groups_mutex_);
  if (groups_.size() <= static_cast<size_t>(number))
    groups_.resize(static_cast<size_t>(number) + 1);
  groups_[static_cast<size_t>(number)] = std::make_unique<GroupInfo>(std::move(info));
}

GroupInfo ProgressEngine::group(int number) const {
  const std::lock_guard lock(groups_mutex_);
  if (number < 0 || static_cast<size_t>(number) >= groups_.size() ||
      !groups_[static_cast<size_t>(number)])
    return {};
  return *groups_[static_cast<size_t>(number)];
}

void ProgressEngine::attach(Progressable* item) { items_.push_back(item); }
void ProgressEngine::detach(Progressable* item) { std::erase(items_, item); }

uint64_t ProgressEngine::note_start(int group, int kind, std::string_view tensor) {
  RankProgress& words = self();
  auto& started = words.started[static_cast<size_t>(group)];
  const uint64_t sequence = started.load(std::memory_order_relaxed) + 1;
  words.last.group.store(group, std::memory_order_relaxed);
  words.last.kind.store(kind, std::memory_order_relaxed);
  words.last.sequence.store(sequence, std::memory_order_relaxed);
  words.last.tensor.store(tensor);
  started.store(sequence, std::memory_order_release);
  return sequence;
}

void ProgressEngine::note_finished(int group, uint64_t sequence) {
  self().finished[static_cast<size_t>(group)].store(sequence, std::memory_order_release);
}

bool ProgressEngine::poll() {
  bool moved = false;
  for (Progressable* item : items_) moved |= item->progress();
  return moved;
}

void ProgressEngine::check_abort(const WaitSite& site) {
  const AbortState state = board_->abort_state();
  if (state == AbortState::none) return;
  // After a timeout the watchdogs end all processes with their own exit code; an error thrown here
  // would race with that.
  while (state == AbortState::timed_out)
    board_->sleep(local_, self().doorbell.load(), 1'000'000'000);
  board_->await_shares(local_);
  const std::string reason = board_->abort_reason();
  const int culprit = board_->abort_rank();
  const std::string where = cat("rank ", world_rank_, " was in ",
                                describe_collective(site.kind, site.sequence, site.tensor),
                                " in group '", group(site.group).name, "'");
  const bool named = culprit == world_rank_ || reason.rfind(cat("rank ", culprit, " "), 0) == 0;
  throw PeerFailure(cat(named ? "" : cat("rank ", culprit, " failed: "), reason, " (", where, ")"));
}

void ProgressEngine::fail_timeout(const WaitSite& site, double seconds) {
  const std::vector<RankView> views = view_members(*board_, group(site.group), site.group);
  const LagReport report = report_lag(world_rank_, group(site.group), site, seconds, views);
  board_->abort(AbortState::failed, report.culprit, report.text);
  board_->await_shares(local_);
  throw PeerFailure(report.text);
}

ProgressEngine::Waiter::~Waiter() {
  RankProgress& words = engine_.self();
  words.sleeping.store(0, std::memory_order_relaxed);
  if (!announced_) return;
  words.waiting_since.store(0, std::memory_order_relaxed);
  words.blocked_on.store(-1, std::memory_order_relaxed);
}

void ProgressEngine::Waiter::announce() {
  RankProgress& words = engine_.self();
  since_ = monotonic_nanoseconds();
  words.waiting.group.store(site_.group, std::memory_order_relaxed);
  words.waiting.kind.store(site_.kind, std::memory_order_relaxed);
  words.waiting.sequence.store(site_.sequence, std::memory_order_relaxed);
  words.waiting.tensor.store(site_.tensor);
  words.waiting_since.store(since_, std::memory_order_release);
  announced_ = true;
}

void ProgressEngine::Waiter::prepare() {
  const Patience patience = engine_.policy_.crowded ? kCrowded : kOwnCore;
  if (rounds_ < patience.spins + patience.yields) return;
  // The order matters: bell first, then the flag, then (in wait_until) one more look.
  RankProgress& words = engine_.self();
  seen_ = words.doorbell.load(std::memory_order_seq_cst);
  words.sleeping.store(1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void ProgressEngine::Waiter::pause(bool moved) {
  const Patience patience = engine_.policy_.crowded ? kCrowded : kOwnCore;
  if (moved) {
    rounds_ = std::min(rounds_, patience.spins / 2);
    engine_.self().sleeping.store(0, std::memory_order_relaxed);
    return;
  }
  ++rounds_;
  if (rounds_ <= patience.spins) {
    relax();
    if (rounds_ % 256 == 0) engine_.check_abort(site_);
    return;
  }
  if (!announced_) announce();
  engine_.check_abort(site_);
  if (engine_.policy_.timeout_seconds > 0) {
    const double seconds = static_cast<double>(monotonic_nanoseconds() - since_) * 1e-9;
    if (seconds > engine_.policy_.timeout_seconds) engine_.fail_timeout(site_, seconds);
  }
  if (rounds_ <= patience.spins + patience.yields) {
    sched_yield();
    return;
  }
  const bool polling =
      site_.polling || std::any_of(engine_.items_.begin(), engine_.items_.end(),
                                   [](const Progressable* item) { return item->needs_polling(); });
  engine_.board_->sleep(engine_.local_, seen_, polling ? kPollNapNanoseconds : kNapNanoseconds);
}

}  // namespace tessera
