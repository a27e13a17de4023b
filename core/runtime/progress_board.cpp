#include "core/runtime/progress_board.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <new>

#include "core/base/strings.h"
#include "core/runtime/communicator.h"

namespace tessera {
namespace {

// The words are lock-free, hence address-free: a process may use them through its own map.
static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

constexpr int64_t kHeaderBytes = 2048;

void futex_wake(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

int64_t monotonic_nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int64_t ProgressBoard::bytes_for(int ranks) {
  static_assert(sizeof(Header) <= kHeaderBytes);
  return kHeaderBytes + static_cast<int64_t>(sizeof(RankProgress)) * ranks;
}

ProgressBoard::ProgressBoard(std::byte* memory, std::span<const int> world_ranks)
    : header_(reinterpret_cast<Header*>(memory)),
      ranks_(reinterpret_cast<RankProgress*>(memory + kHeaderBytes)),
      world_ranks_(world_ranks) {}

void ProgressBoard::join(int local) {
  RankProgress& rank = ranks_[local];
  rank.pid.store(static_cast<int32_t>(getpid()), std::memory_order_relaxed);
  for (CollectiveMark* mark : {&rank.last, &rank.waiting}) {
    mark->group.store(-1, std::memory_order_relaxed);
    mark->kind.store(-1, std::memory_order_relaxed);
  }
  rank.blocked_on.store(-1, std::memory_order_relaxed);
  rank.state.store(RankState::running, std::memory_order_release);
}

int ProgressBoard::local_of(int world_rank) const {
  const auto found = std::find(world_ranks_.begin(), world_ranks_.end(), world_rank);
  return found == world_ranks_.end() ? -1 : static_cast<int>(found - world_ranks_.begin());
}

bool ProgressBoard::abort(AbortState state, int world_rank, std::string_view reason) {
  uint32_t expected = 0;
  if (!header_->claimed.compare_exchange_strong(expected, 1)) return false;
  header_->rank.store(world_rank, std::memory_order_relaxed);
  header_->reason.store(reason);
  header_->state.store(state, std::memory_order_release);
  for (int local = 0; local < size(); ++local) ring(local);
  return true;
}

void ProgressBoard::await_shares(int local) const {
  constexpr int64_t kLimit = 1'000'000'000;
  const int64_t begin = monotonic_nanoseconds();
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (int other = 0; other < size(); ++other)
    while (other != local && ranks_[other].sharing.load(std::memory_order_acquire) != 0 &&
           monotonic_nanoseconds() - begin < kLimit)
      sched_yield();
}

void ProgressBoard::ring(int local) {
  RankProgress& rank = ranks_[local];
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (rank.sleeping.load(std::memory_order_seq_cst) == 0) return;
  rank.doorbell.fetch_add(1, std::memory_order_seq_cst);
  futex_wake(&rank.doorbell);
}

void ProgressBoard::sleep(int local, uint32_t seen, int64_t nanoseconds) {
  RankProgress& rank = ranks_[local];
  const timespec limit{static_cast<time_t>(nanoseconds / 1'000'000'000),
                       static_cast<long>(nanoseconds % 1'000'000'000)};
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&rank.doorbell), FUTEX_WAIT, seen, &limit, nullptr,
          0);
}

std::string describe_collective(int kind, uint64_t sequence, std::string_view tensor) {
  if (kind == CollectiveMark::kControl) return cat(tensor, " #", sequence);
  const std::string_view name = kind >= 0 && kind <= static_cast<int>(CollectiveKind::broadcast)
                                    ? name_of(static_cast<CollectiveKind>(kind))
                                    : "collective";
  if (tensor.empty()) return cat(name, " #", sequence);
  return cat(name, " #", sequence, " of '", tensor, "'");
}

std::string describe(const RankProgress& rank) {
  const int64_t since = rank.waiting_since.load(std::memory_order_relaxed);
  const auto text = [](const CollectiveMark& mark) {
    return describe_collective(mark.kind.load(std::memory_order_relaxed),
                               mark.sequence.load(std::memory_order_relaxed), mark.tensor.load());
  };
  if (rank.state.load(std::memory_order_relaxed) == RankState::closed) return "has left";
  if (since != 0) {
    const double seconds = static_cast<double>(monotonic_nanoseconds() - since) * 1e-9;
    return cat("waits in ", text(rank.waiting), " for ",
               print_double(std::max(0.0, seconds)).substr(0, 5), " s");
  }
  if (rank.last.sequence.load(std::memory_order_relaxed) == 0)
    return "has started no collective yet";
  return cat("started ", text(rank.last), " last");
}

}  // namespace tessera
