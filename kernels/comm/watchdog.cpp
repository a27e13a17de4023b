#include "kernels/comm/watchdog.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "core/base/log.h"

namespace tessera {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int kTickMilliseconds = 100;
// A wait this old names the rank that it blames on the board, for others to follow the chain.
constexpr int64_t kBlameAfter = kSecond / 2;
constexpr int64_t kProbeEvery = kSecond / 2;
constexpr int64_t kHeartbeatEvery = kSecond;
constexpr int kProbesPerTick = 64;
// The other processes' watchdogs get this long to write the verdict to their own logs.
constexpr auto kLogGrace = std::chrono::milliseconds(300);
// After a failure the main thread should end by itself, through the error that its wait throws.
constexpr int64_t kExitGrace = 15 * kSecond;

int open_pid(int pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

// Whatever happens in between, the process ends within some seconds.
void end_without_log(int code) {
  std::thread([code] {
    std::this_thread::sleep_for(std::chrono::seconds(10));
    _exit(code);
  }).detach();
}

double seconds_of(int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-9; }

}  // namespace

Watchdog::Watchdog(ProgressEngine* engine, SideChannel* channel, WatchdogOptions options)
    : engine_(engine),
      board_(&engine->board()),
      channel_(channel),
      options_(std::move(options)),
      local_(board_->local_of(engine->world_rank())),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      timeout_(options_.timeout_seconds) {
  // Signals are the main thread's business.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  stop();
  if (wake_fd_ >= 0) close(wake_fd_);
}

void Watchdog::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
  thread_.join();
}

void Watchdog::run() {
  open_peers();
  int64_t last = monotonic_nanoseconds();
  while (!stopping_) {
    sleep_until_something();
    if (stopping_) break;
    const int64_t now = monotonic_nanoseconds();
    if (now - last > 2 * kSecond)  // this process was stopped itself: its clocks prove nothing
      for (auto& [rank, remote] : remotes_) remote.last_answer = remote.first_asked = now;
    last = now;
    receive_all();
    tick();
  }
  for (const auto& [fd, local] : peer_fds_) close(fd);
}

void Watchdog::open_peers() {
  for (int local = 0; local < board_->size(); ++local) {
    if (local == local_) continue;
    const int fd = open_pid(board_->rank(local).pid.load());
    if (fd >= 0)
      peer_fds_.emplace_back(fd, local);
    else if (errno == ESRCH && board_->rank(local).state.load() == RankState::running)
      peer_died(local);
  }
}

void Watchdog::sleep_until_something() {
  std::vector<pollfd> files;
  files.push_back({wake_fd_, POLLIN, 0});
  if (channel_->open()) files.push_back({channel_->descriptor(), POLLIN, 0});
  const size_t first_peer = files.size();
  for (const auto& [fd, local] : peer_fds_) files.push_back({fd, POLLIN, 0});
  if (::poll(files.data(), files.size(), kTickMilliseconds) <= 0) return;
  for (size_t i = files.size(); i-- > first_peer;) {
    if (files[i].revents == 0) continue;
    const auto [fd, local] = peer_fds_[i - first_peer];
    close(fd);
    peer_fds_.erase(peer_fds_.begin() + static_cast<std::ptrdiff_t>(i - first_peer));
    if (board_->rank(local).state.load(std::memory_order_acquire) != RankState::closed)
      peer_died(local);
  }
}

void Watchdog::receive_all() {
  SideMessage message;
  while (channel_->receive(message)) {
    switch (message.kind) {
      case SideKind::probe:
        answer(message);
        break;
      case SideKind::answer: {
        Remote& remote = remotes_[message.from];
        remote.proven = true;
        remote.last_answer = monotonic_nanoseconds();
        if (message.group != remote_group_) break;
        remote.view = {message.from,       true,        message.started, message.finished,
                       message.blocked_on, message.text};
        break;
      }
      case SideKind::abort:
        board_->abort(static_cast<AbortState>(message.abort_state), message.culprit, message.text);
        break;
    }
  }
}

void Watchdog::answer(const SideMessage& probe) {
  SideMessage reply;
  reply.kind = SideKind::answer;
  reply.group = probe.group;
  if (probe.group >= 0 && probe.group < kMaxGroups) {
    const RankView view = view_rank(*board_, engine_->world_rank(), probe.group);
    reply.started = view.started;
    reply.finished = view.finished;
    reply.blocked_on = view.blocked_on;
    reply.set_text(view.doing);
  }
  channel_->send(probe.from, reply);
}

void Watchdog::tick() {
  const int64_t now = monotonic_nanoseconds();
  check_verdict(now);
  if (verdict_seen_ != 0) return;
  // Where pidfd_open is not allowed.
  for (int local = 0; local < board_->size() && peer_fds_.empty(); ++local) {
    const RankProgress& words = board_->rank(local);
    if (local != local_ && words.state.load(std::memory_order_acquire) == RankState::running &&
        kill(words.pid.load(), 0) != 0 && errno == ESRCH)
      peer_died(local);
  }
  check_heartbeat(now);
  check_own_wait(now);
}

void Watchdog::check_heartbeat(int64_t now) {
  const auto& leaders = options_.island_leaders;
  if (leaders.size() < 2 || !channel_->open()) return;
  if (engine_->world_rank() != leaders[static_cast<size_t>(options_.island)]) return;
  const int next = leaders[(static_cast<size_t>(options_.island) + 1) % leaders.size()];
  Remote& remote = remotes_[next];
  if (now - remote.last_asked >= kHeartbeatEvery) {
    SideMessage probe;
    probe.group = -1;
    channel_->send(next, probe);
    remote.last_asked = now;
  }
  const double silent = seconds_of(now - remote.last_answer);
  if (remote.proven && silent > silence_limit()) peer_silent(next, silent);
}

void Watchdog::check_own_wait(int64_t now) {
  RankProgress& words = board_->rank(local_);
  const int64_t since = words.waiting_since.load(std::memory_order_acquire);
  if (since == 0 || now - since < kBlameAfter) return;
  const std::string tensor = words.waiting.tensor.load();
  const WaitSite site{words.waiting.group.load(), words.waiting.kind.load(),
                      words.waiting.sequence.load(), tensor};
  const GroupInfo group = engine_->group(site.group);
  probe_members(group, site.group, site.sequence, now);
  const std::vector<RankView> views = views_of(group, site.group);
  const std::vector<int> late = laggards(engine_->world_rank(), views, site.sequence);
  if (words.waiting_since.load(std::memory_order_acquire) != since) return;  // it is over
  words.blocked_on.store(late.empty() ? -1 : late.front(), std::memory_order_relaxed);
  const double timeout = timeout_;
  if (timeout <= 0 || seconds_of(now - since) < timeout) return;

  LagReport report = report_lag(engine_->world_rank(), group, site, seconds_of(now - since), views);
  const auto guilty = std::find_if(views.begin(), views.end(), [&](const RankView& view) {
    return view.world_rank == report.culprit;
  });
  if (guilty != views.end() && guilty->blocked_on >= 0 &&
      guilty->blocked_on != engine_->world_rank()) {
    // It waits for someone else, and its own watchdog knows more: let it speak first.
    if (seconds_of(now - since) < timeout + 1.0) return;
    report.culprit = guilty->blocked_on;
  }
  const std::string text = cat("timeout: ", report.text);
  if (board_->abort(AbortState::timed_out, report.culprit, text))
    spread_abort(AbortState::timed_out, report.culprit, text);
  check_verdict(now);
}

void Watchdog::probe_members(const GroupInfo& group, int number, uint64_t sequence, int64_t now) {
  if (number != remote_group_ || sequence != remote_sequence_) {
    remote_group_ = number;
    remote_sequence_ = sequence;
    for (auto& [rank, remote] : remotes_) {
      remote.view = {};
      remote.first_asked = 0;
    }
  }
  if (!channel_->open()) return;
  int budget = kProbesPerTick;
  for (const int member : group.members) {
    if (board_->local_of(member) >= 0 || budget == 0) continue;
    Remote& remote = remotes_[member];
    if (remote.view.known && remote.view.finished >= sequence) continue;
    if (remote.first_asked == 0) remote.first_asked = now;
    if (now - remote.last_asked >= kProbeEvery) {
      SideMessage probe;
      probe.group = number;
      channel_->send(member, probe);
      remote.last_asked = now;
      --budget;
    }
    const double silent = seconds_of(now - std::max(remote.last_answer, remote.first_asked));
    if (remote.proven && silent > silence_limit()) peer_silent(member, silent);
  }
}

std::vector<RankView> Watchdog::views_of(const GroupInfo& group, int number) const {
  std::vector<RankView> views = view_members(*board_, group, number);
  for (RankView& view : views) {
    const auto found = view.known ? remotes_.end() : remotes_.find(view.world_rank);
    if (found != remotes_.end() && found->second.view.known) view = found->second.view;
  }
  return views;
}

void Watchdog::peer_died(int local) {
  const RankProgress& words = board_->rank(local);
  const int rank = board_->world_rank(local);
  const std::string text = cat("rank ", rank, " (process ", words.pid.load(), " on ",
                               options_.host_name, ") died; it ", describe(words),
                               ". Look at its log, and for the out-of-memory killer in "
                               "dmesg on that host.");
  if (board_->abort(AbortState::failed, rank, text)) spread_abort(AbortState::failed, rank, text);
  check_verdict(monotonic_nanoseconds());
}

void Watchdog::peer_silent(int world_rank, double seconds) {
  RankProgress& words = board_->rank(local_);
  std::string text =
      cat("rank ", world_rank, " on another host has not answered for ", static_cast<int>(seconds),
          " s: it is stopped or dead, or its host is; rank ", engine_->world_rank(), " ",
          describe(words));
  if (board_->abort(AbortState::timed_out, world_rank, text))
    spread_abort(AbortState::timed_out, world_rank, text);
  check_verdict(monotonic_nanoseconds());
}

void Watchdog::spread_abort(AbortState state, int culprit,
                            const std::string& reason) const noexcept {
  SideMessage message;
  message.kind = SideKind::abort;
  message.abort_state = static_cast<uint32_t>(state);
  message.culprit = culprit;
  message.set_text(reason);
  for (size_t island = 0; island < options_.island_leaders.size(); ++island)
    if (static_cast<int>(island) != options_.island)
      channel_->send(options_.island_leaders[island], message);
}

void Watchdog::check_verdict(int64_t now) {
  const AbortState state = board_->abort_state();
  if (state == AbortState::none || stopping_) return;
  const int culprit = board_->abort_rank();
  if (verdict_seen_ == 0) {
    verdict_seen_ = now;
    // The log may be what is stuck, with its lock held by the main thread.
    if (state == AbortState::timed_out) end_without_log(124);
    const bool own = culprit == engine_->world_rank() && state == AbortState::failed;
    const std::string reason = board_->abort_reason();
    const bool named = state == AbortState::timed_out || reason.rfind("rank ", 0) == 0;
    if (!own)
      log_error("watchdog of rank ", engine_->world_rank(), ": ",
                named ? "" : cat("rank ", culprit, " failed: "), reason);
    flush_log();
  }
  if (state == AbortState::timed_out) {
    std::this_thread::sleep_for(kLogGrace);
    end(124);
  } else if (now - verdict_seen_ > kExitGrace) {
    log_error("watchdog of rank ", engine_->world_rank(), ": this rank did not end by itself ",
              kExitGrace / kSecond, " s after rank ", culprit, " failed");
    end(1);
  }
}

// A side channel that worked and stays silent for longer has lost its peer.
double Watchdog::silence_limit() const {
  constexpr double kSilence = 30;
  const double timeout = timeout_;
  return timeout > 0 ? std::min(kSilence, timeout) : kSilence;
}

void Watchdog::end(int code) {
  flush_log();
  options_.terminate(code);
}

}  // namespace tessera
