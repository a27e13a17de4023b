// A thread per process that sees who holds the job up, without asking the thread that is stuck.
//
//     every 100 ms, and at once when a peer process of the host ends or a datagram arrives:
//       a peer of the host died                 -> all waits end with an error that names it
//       a rank on another host fell silent      -> the same, as a timeout
//       this rank has waited past the timeout   -> name the rank that lags; end the job, code 124
//       somebody else found one of these        -> log it here as well
//
// Inside the host it reads the progress board; of ranks on other hosts it asks their watchdogs over
// the side channel, but only while this rank waits for them, so a job that runs costs no messages
// beyond one heartbeat a second from each host's first rank to the next host's.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/runtime/lag_report.h"
#include "core/runtime/progress_engine.h"
#include "kernels/comm/side_channel.h"

namespace tessera {

struct WatchdogOptions {
  double timeout_seconds = 600;  // 0: never
  std::string host_name;
  std::vector<int> island_leaders;  // the first rank of each host, by host; this host's included
  int island = 0;                   // this host's number in island_leaders
  // Ends the process and the job with an exit code; does not return.
  std::function<void(int)> terminate;
};

class Watchdog {
 public:
  Watchdog(ProgressEngine* engine, SideChannel* channel, WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;

  // Sends an abort to the other hosts. Any thread; never blocks.
  void spread_abort(AbortState state, int culprit, const std::string& reason) const noexcept;
  // From now on; 0: never. Any thread.
  void set_timeout(double seconds) { timeout_ = seconds; }
  // From now on peers may leave: the job ends in good order.
  void stop();

 private:
  struct Remote {
    RankView view;
    int64_t first_asked = 0, last_asked = 0, last_answer = 0;  // monotonic nanoseconds
    bool proven = false;
  };

  void run();
  void open_peers();
  void sleep_until_something();
  void receive_all();
  void answer(const SideMessage& probe);
  void tick();
  void check_heartbeat(int64_t now);
  void check_own_wait(int64_t now);
  void probe_members(const GroupInfo& group, int number, uint64_t sequence, int64_t now);
  std::vector<RankView> views_of(const GroupInfo& group, int number) const;
  void peer_died(int local);
  void peer_silent(int world_rank, double seconds);
  void check_verdict(int64_t now);
  void end(int code);
  double silence_limit() const;

  ProgressEngine* engine_;
  ProgressBoard* board_;
  SideChannel* channel_;
  WatchdogOptions options_;
  int local_ = 0;
  int wake_fd_ = -1;
  std::vector<std::pair<int, int>> peer_fds_;  // pidfd, local rank
  std::map<int, Remote> remotes_;
  int remote_group_ = -1;  // the wait that remotes_' views are about
  uint64_t remote_sequence_ = 0;
  int64_t verdict_seen_ = 0;
  std::atomic<double> timeout_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace tessera
